"""The swap manager starts copies between the pools, and handles their ends.

It knows what copying costs, which request a copy is charged to, and how often a node's copies have failed in a row.
A failed copy loses nothing: it is tried again, and after `RETRIES` more failures the KV is dropped and computed again.
"""

from allocator import Direction, KVMemory, Ticket
from service.core.messages.events import CopyEnded, CopyStarted
from service.core.messages.plan import CopyResult
from service.core.state.ledger import Ledger
from service.core.state.owners import Owner
from service.core.state.requests import Request
from service.core.switching.costs import Costs
from service.core.switching.host_room import HostVictims
from service.core.switching.mechanisms import Mechanisms

RETRIES = 2


class SwapManager:
    """Starts and ends the copies of one core; `KVMemory` has their tickets."""

    def __init__(self, ledger: Ledger, mechanisms: Mechanisms) -> None:
        self.costs = Costs()
        self._ledger = ledger
        self._memory: KVMemory = ledger.memory
        self._mechanisms = mechanisms
        self._issued: list[Ticket] = []
        self._charged: dict[int, Request] = {}  # which request counts the copy, by ticket
        self._failures: dict[int, int] = {}  # in a row, by node

    @property
    def is_on(self) -> bool:
        """Whether KV can be copied to the host at all."""
        return self._mechanisms.swap and self._memory.host.num_blocks > 0

    def issued(self) -> tuple[Ticket, ...]:
        """Return the copies started since the last call."""
        issued, self._issued = tuple(self._issued), []
        return issued

    def start_swap_out(
        self, owner: Owner, victims: HostVictims, request: Request | None = None, num_blocks: int | None = None
    ) -> str | None:
        """Start copying what the host lacks of an owner's last ``num_blocks`` device blocks (default: of all).

        Without reuse, KV is on one side only, so all of it leaves. Return None, or why the copy cannot start, one of
        the reasons of `KVDropped`.
        """
        number = owner.number
        if not self.is_on:
            return "no_swap"
        if self._has_failed_for_good(number):
            return "copy_failed"
        if not self._mechanisms.reuse:
            num_blocks = None
        if not victims.make_available(self._memory.host_growth(number, num_blocks), owner):
            return "host_full"
        ticket = self._memory.swap_out(number, num_blocks)
        self._issue(ticket, request)
        return None

    def start_swap_in(self, request: Request, number: int) -> None:
        """Start copying what the device lacks of a node that a request needs, and for which blocks are available."""
        ticket = self._memory.swap_in(number)
        self._issue(ticket, request)
        request.is_swapping_in = True

    def end(self, result: CopyResult) -> None:
        """End a copy: move the watermarks, or count the failure. Raises UnknownTicketError."""
        ticket = self._memory.ticket(result.ticket)
        request = self._charged.pop(result.ticket, None)
        seconds = None if result.failed else result.seconds
        self.costs.copy_ended(ticket.direction, ticket.num_runs, ticket.num_blocks, seconds)
        self._ledger.emit(
            CopyEnded(ticket.direction.value, ticket.num_blocks, result.pieces, result.seconds, result.failed)
        )
        if result.failed:
            self._memory.fail(ticket)
            self._count_failure(ticket.node)
        else:
            self._failures.pop(ticket.node, None)
            _charge(request, ticket)
            if self._memory.complete(ticket) and not self._mechanisms.reuse:
                self._keep_one_side(ticket)

    def must_recompute(self, number: int) -> str | None:
        """Return why KV that is only on the host should be computed again, as in `KVDropped`. None: copy it in.

        KV on which other KV stands is copied as long as it can be.
        """
        if self._has_failed_for_good(number):
            return "copy_failed"
        if self._memory.has_kv_above(number):
            return None
        marks = self._memory.watermarks(number)
        missing = marks.computed - marks.resident
        copy_s = self.costs.copy_s(Direction.IN, self._memory.device_blocks_for(missing))
        recompute_s = self.costs.recompute_s(missing)
        if copy_s is not None and recompute_s is not None and copy_s > recompute_s:
            self.costs.copy_spared(Direction.IN)
            return "link_busy"
        return None

    def forget_failures(self, number: int) -> None:
        """Forget the failures for which KV was dropped, so that the next copy is tried again."""
        self._failures.pop(number, None)

    def _has_failed_for_good(self, number: int) -> bool:
        return self._failures.get(number, 0) > RETRIES

    def _count_failure(self, number: int) -> None:
        self._failures[number] = self._failures.get(number, 0) + 1
        self._failures = {known: count for known, count in self._failures.items() if known in self._memory.device}

    def _issue(self, ticket: Ticket, request: Request | None) -> None:
        if request is not None:
            self._charged[ticket.number] = request
        self._issued.append(ticket)
        self.costs.copy_issued(ticket.direction, ticket.num_runs, ticket.num_blocks)
        self._ledger.emit(CopyStarted(ticket.direction.value, ticket.num_blocks, self._num_reused(ticket)))

    def _num_reused(self, ticket: Ticket) -> int:
        """Count the blocks that need no copy: those before a copy in, and those that the host has beside a copy out."""
        if ticket.direction is Direction.IN:
            return ticket.first_block
        return self._memory.host.used(ticket.node) - ticket.num_blocks

    def _keep_one_side(self, ticket: Ticket) -> None:
        """Keep KV on one side, without reuse: the device if it was swapped in or a request runs, else the host."""
        number = ticket.node
        leaves = ticket.direction is Direction.OUT and not self._ledger.is_running_on(number)
        if leaves and self._memory.reclaim_device(number, self._memory.device.used(number)):
            return
        self._memory.reclaim_host(number, self._memory.host.used(number))


def _charge(request: Request | None, ticket: Ticket) -> None:
    if request is None:
        return
    if ticket.direction is Direction.OUT:
        request.swapped_out += ticket.num_blocks
    else:
        request.swapped_in += ticket.num_blocks
