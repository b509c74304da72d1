"""A `Snapshot` of the ledger for operators. Taking one changes nothing."""

from allocator import BlockGroups
from service.core.messages.events import Gauges, Snapshot
from service.core.messages.views import PoolView, PrefixView, RequestView, SessionView
from service.core.state.ledger import Ledger
from service.core.state.owners import Prefix, Session
from service.core.state.requests import Request, State


def take_snapshot(ledger: Ledger, gauges: Gauges, number: int, arrivals_planned: int, now: float) -> Snapshot:
    """Return a snapshot. Requests with the number ``arrivals_planned`` or a higher one came after the last plan."""
    memory, slots = ledger.memory, ledger.slots
    idle = [session for session in ledger.sessions if session.idle_since_s is not None]
    return Snapshot(
        number=number,
        gauges=gauges,
        slots=slots.num_free + len(slots.running),
        slots_free=slots.num_free,
        requests=tuple(_request(ledger, request, arrivals_planned, now) for request in ledger.live.values()),
        idle_sessions=tuple(_session(ledger, session, now) for session in idle),
        prefixes=tuple(_prefix(ledger, prefix, now) for prefix in ledger.sessions.prefixes),
        pools=(_pool("device", memory.device), _pool("host", memory.host)),
    )


def _request(ledger: Ledger, request: Request, arrivals_planned: int, now: float) -> RequestView:
    session = request.session
    path = [ledger.memory.watermarks(number) for number in ledger.memory.path(request.sequence)]
    return RequestView(
        request_id=request.request_id,
        tenant=request.spec.tenant,
        state=request.state.value,
        because=_because(ledger, request, arrivals_planned),
        since_s=now - _since(request),
        age_s=now - request.arrival_s,
        slot=request.slot,
        priority=request.priority,
        prompt=request.prompt_length,
        max_tokens=request.spec.max_tokens,
        answered=request.num_answered,
        computed=sum(marks.computed for marks in path),
        resident=sum(marks.resident for marks in path),
        mirrored=sum(marks.mirrored for marks in path),
        blocks=ledger.memory.device.used(request.sequence),
        host_blocks=ledger.memory.host.used(request.sequence),
        reused=request.reused,
        recomputed=request.recomputed,
        preemptions=request.preemptions,
        prefix=_number_of(session.prefix),
        shared=session.start,
    )


def _because(ledger: Ledger, request: Request, arrivals_planned: int) -> str | None:
    match request.state:
        case State.PREEMPTED:
            return request.preempt_reason
        case State.WAITING if request.number >= arrivals_planned:
            return "step"
        case State.WAITING:
            return "room" if ledger.slots.num_free else "slot"
    return None


def _since(request: Request) -> float:
    """Return when the request entered its state."""
    moments = {
        State.WAITING: request.arrival_s,
        State.PREEMPTED: request.preempted_s,
        State.RUNNING: request.started_s if request.resumed_s is None else request.resumed_s,
    }
    moment = moments[request.state]
    assert moment is not None
    return moment


def _session(ledger: Ledger, session: Session, now: float) -> SessionView:
    assert session.idle_since_s is not None
    return SessionView(
        tenant=session.tenant,
        idle_s=now - session.idle_since_s,
        tokens=len(session.tokens),
        computed=ledger.memory.computed(session.sequence),
        blocks=ledger.memory.device.used(session.sequence),
        host_blocks=ledger.memory.host.used(session.sequence),
        prefix=_number_of(session.prefix),
        shared=session.start,
    )


def _prefix(ledger: Ledger, prefix: Prefix, now: float) -> PrefixView:
    marks = ledger.memory.watermarks(prefix.number)
    return PrefixView(
        number=prefix.number,
        prefix=_number_of(prefix.prefix),
        tokens=prefix.length,
        computed=marks.computed,
        resident=marks.resident,
        mirrored=marks.mirrored,
        blocks=ledger.memory.device.used(prefix.number),
        host_blocks=ledger.memory.host.used(prefix.number),
        sessions=prefix.users,
        live=prefix.live,
        idle_s=None if prefix.idle_since_s is None else now - prefix.idle_since_s,
    )


def _number_of(prefix: Prefix | None) -> int | None:
    return None if prefix is None else prefix.number


def _pool(name: str, groups: BlockGroups) -> PoolView:
    found = groups.statistics()
    return PoolView(
        name=name,
        blocks=groups.num_blocks,
        used=found.used,
        reserved=found.reserved,
        free=found.free,
        largest_free=found.largest_free,
        owners=found.owners,
        groups=found.groups,
    )
