"""A ledger set up by hand, part by part, for tests of the parts between core and the allocator."""

from allocator import KVMemory, Ticket
from service.core.messages.commands import Submit
from service.core.messages.events import Event, FinishReason
from service.core.messages.packing import pack
from service.core.messages.plan import CopyResult
from service.core.messages.sampling import SamplingParams
from service.core.state.ledger import Ledger
from service.core.state.owners import Session
from service.core.state.requests import Request
from service.core.state.sessions import SessionTable
from service.core.state.slots import SlotTable
from service.core.switching.host_room import HostVictims
from service.core.switching.mechanisms import Mechanisms
from service.core.switching.swaps import SwapManager
from service.core.switching.victims import Victims
from tests.settings import make_policy

BLOCK = 16


class Bench:
    """Sizes in blocks. Requests have one token more than they have KV, unless a test says otherwise."""

    def __init__(self, device: int = 20, host: int = 20, slots: int = 8, **mechanisms: bool) -> None:
        self.memory = KVMemory(device, host, initial_group=4)
        self.policy = make_policy("fcfs")
        self.ledger = Ledger(self.memory, SessionTable(1000.0, 1000), SlotTable(slots), [self.policy])
        self.swaps = SwapManager(self.ledger, Mechanisms(**mechanisms))
        self._number = 0

    def waiting(self, tokens: int) -> Request:
        """Return a waiting request, without KV."""
        session = self.ledger.sessions.open(("t", str(self._number)))
        self.memory.add(session.sequence)
        prompt = tuple(range(tokens))
        self.ledger.sessions.begin_turn(session, prompt, pack(prompt))
        spec = Submit(f"r{self._number}", prompt, 99, SamplingParams(), frozenset(), session.scope)
        request = Request(self._number, spec, session, arrival_s=0.0)
        self.ledger.accept(request)
        self._number += 1
        return request

    def running(self, blocks: int, tokens: int | None = None) -> Request:
        """Return a request in the batch with ``blocks`` blocks full of KV, or with ``tokens`` tokens of it."""
        computed = blocks * BLOCK if tokens is None else tokens
        request = self.waiting(computed + 1)
        self.ledger.hold(request)
        self.memory.reserve(request.sequence, max(computed, blocks * BLOCK))
        self.memory.append(request.sequence, computed)
        self.ledger.give_slot(request, 0.0)
        return request

    def preempted(self, blocks: int, tokens: int | None = None, *, mirrored: bool = False) -> Request:
        """Return a preempted request with KV on the device, and on the host too if ``mirrored``."""
        request = self.running(blocks, tokens)
        self.ledger.preempt(request, "slot", 0.0)
        if mirrored:
            self.mirror(request.session)
        self.ledger.collect()
        return request

    def swapped(self, blocks: int) -> Request:
        """Return a preempted request with KV on the host alone."""
        request = self.preempted(blocks, mirrored=True)
        self.memory.reclaim_device(request.sequence, blocks)
        return request

    def idle(self, blocks: int, *, mirrored: bool = False, on_device: bool = True) -> Session:
        """Return a new idle session, the youngest."""
        request = self.preempted(blocks, mirrored=mirrored or not on_device)
        self.ledger.finish(request, FinishReason.STOP, float(self._number))
        self.ledger.collect()
        if not on_device:
            self.memory.reclaim_device(request.sequence, blocks)
        return request.session

    def mirror(self, session: Session) -> None:
        """Copy a sequence's KV to the host, at once."""
        self.memory.complete(self.memory.swap_out(session.sequence))

    def victims(self, admitted: list[Request], others: list[Request]) -> Victims:
        """Return a step's victims; both lists are best rank first."""
        return Victims(self.ledger, self.swaps, admitted, others, 0.0)

    def host_victims(self, ranked: list[Request]) -> HostVictims:
        """Return the victims on the host; best rank first."""
        return HostVictims(self.ledger, ranked)

    def end_copies(self, *, failed: bool = False, seconds: float = 0.1) -> list[Ticket]:
        """End all copies in flight."""
        self.swaps.issued()
        tickets = list(self.memory.tickets)
        for ticket in tickets:
            self.swaps.end(CopyResult(ticket.number, seconds, 1, failed))
        self.check()
        return tickets

    def device(self, of: Request | Session) -> int:
        """Return the number of device blocks."""
        return self.memory.device.used(of.sequence)

    def host(self, of: Request | Session) -> int:
        """Return the number of host blocks."""
        return self.memory.host.used(of.sequence)

    def events(self, kind: type[Event]) -> list[Event]:
        """Return the events of a kind since the last call; all others are dropped."""
        return [event for event in self.ledger.collect() if isinstance(event, kind)]

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        self.ledger.check()
