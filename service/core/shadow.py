"""Shadow counts what a policy would have switched while another one serves, so that an operator can try it first."""

from service.core.admission import Room, admit
from service.core.messages.events import ShadowSwitched
from service.core.policies.ranking import Ranking
from service.core.state.ledger import Ledger
from service.core.state.requests import Request, State


class Shadow:
    """A policy without power. It keeps its own account of which requests would run."""

    def __init__(self, ledger: Ledger, ranking: Ranking, rows: int) -> None:
        self._ledger = ledger
        self._ranking = ranking
        self._rows = rows
        self._running: dict[Request, None] = {}

    @property
    def updates(self) -> int:
        """Number of priority updates of the shadowed policy."""
        return self._ranking.updates

    def observe(self, now: float, step: int) -> None:
        """Rank and admit as if in charge, and emit `ShadowSwitched` if that preempts any request."""
        running = {request: None for request in self._running if request.state is not State.FINISHED}
        room = Room(self._ledger.memory.device.num_blocks, self._rows, running)
        ranks = self._ranking.walk(self._ledger.holders, room, now, step)
        admission = admit(ranks, room, self._ledger.holders)
        self._ranking.end(admission, room, now)
        self._running = dict.fromkeys(admission.admitted)
        victims = [request for request in running if request not in self._running]
        if victims:
            self._ledger.emit(ShadowSwitched(len(victims), sum(map(self._dirty_blocks, victims))))

    def _dirty_blocks(self, request: Request) -> int:
        memory = self._ledger.memory
        marks = memory.watermarks(request.sequence)
        return memory.device_blocks_for(marks.computed) - marks.mirrored // memory.block_tokens
