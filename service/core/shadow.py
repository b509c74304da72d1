"""Counts what a policy would have switched while another one serves: what an operator looks at before using it."""

from service.core.admission import cut
from service.core.messages.events import ShadowSwitched
from service.core.policies.ranking import Ranking
from service.core.state.ledger import Ledger
from service.core.state.requests import Request


class Shadow:
    """A policy without power. It keeps its own idea of who runs."""

    def __init__(self, ledger: Ledger, ranking: Ranking, rows: int) -> None:
        self._ledger = ledger
        self._ranking = ranking
        self._rows = rows
        self._running: dict[Request, None] = {}

    @property
    def updates(self) -> int:
        """Priority updates of the policy in the shadow."""
        return self._ranking.updates

    def observe(self, now: float, step: int) -> None:
        """Rank and cut as if in charge, and emit `ShadowSwitched` if that drives anybody out."""
        live = dict.fromkeys(self._ledger.live.values())
        ranked = self._ranking.order(live, now, step)
        kept = dict.fromkeys(cut(ranked, self._running, self._ledger.memory, self._rows))
        victims = [request for request in self._running if request in live and request not in kept]
        self._running = kept
        if victims:
            self._ledger.emit(ShadowSwitched(len(victims), sum(map(self._dirty_blocks, victims))))

    def _dirty_blocks(self, request: Request) -> int:
        memory = self._ledger.memory
        marks = memory.watermarks(request.sequence)
        return memory.device_blocks_for(marks.computed) - marks.mirrored // memory.block_tokens
