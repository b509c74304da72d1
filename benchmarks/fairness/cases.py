"""The cases: who asks how much, and when.

They follow section 5 of the paper on virtual token counters (Sheng et al., arXiv 2401.00588): overload, weights, on and
off, short beside long, an increasing load, a shift of the distribution. A flood, background work, and a load that no
policy can improve are added. A `Case` is a trace; a `Scene` plays one, or what is left of it without some requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

# Requests of `PROMPT` and `ANSWER` tokens that the default model serves a second on two cores with `SERVER`, and some
# below: a light tenant must be light on a slower machine too. On a faster one the same traces overload less.
CAPACITY_PER_S = 4.0
PROMPT, ANSWER = 80, 32
SECONDS = 60.0
# A small batch, and KV memory for less than it, so that little work is an overload and victims give blocks. The queue
# holds every request of the longest flood.
SERVER = ("--max-num-seqs", "12", "--device-kv", "96MiB", "--host-kv", "256MiB", "--max-num-queued-reqs", "8192")
POLICIES = ("fcfs", "priority", "vtc")
FLOODS = (1, 2, 4, 8, 16, 32)  # times the share that the flooding tenant is entitled to


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a case. ``load``: requests over `CAPACITY_PER_S`; ``share``: of the case's time; sizes are means."""

    load: float
    share: float = 1.0
    prompt: int = PROMPT
    answer: int = ANSWER


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who asks. ``paced``: evenly instead of as a Poisson process; ``flex``: for background service."""

    name: str
    phases: tuple[Phase, ...]
    weight: float = 1.0
    paced: bool = False
    flex: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """What one trace holds."""

    name: str
    tenants: tuple[Tenant, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """One experiment. ``every``: by tenant, only each n-th request of the trace is sent; with 0, none."""

    name: str
    case: str
    policies: tuple[str, ...] = POLICIES
    every: Mapping[str, int] = field(default_factory=dict)


_SHORT, _LONG = {"prompt": 40, "answer": 16}, {"prompt": 260, "answer": 64}
_ON_OFF = (Phase(1.5, 1 / 6), Phase(0.0, 1 / 6)) * 3
_RISING = tuple(Phase(load, 1 / 6) for load in (0.2, 0.5, 0.8, 1.2, 1.6, 2.0))
_SHIFTING = (Phase(0.3, 1 / 3), Phase(2.0, 1 / 3), Phase(1.6, 1 / 3, **_SHORT))
_SHIFTED = (Phase(0.3, 1 / 3), Phase(0.3, 1 / 3), Phase(0.4, 1 / 3, **_LONG))

CASES = {
    case.name: case
    for case in (
        Case("overload", (Tenant("a", (Phase(0.9),)), Tenant("b", (Phase(1.8),)))),
        Case("weights", tuple(Tenant(f"w{weight}", (Phase(0.8),), weight=weight) for weight in (1, 2, 3, 4))),
        Case("on-off", (Tenant("steady", (Phase(1.0),)), Tenant("bursts", _ON_OFF))),
        Case("short-long", (Tenant("short", (Phase(1.6, **_SHORT),)), Tenant("long", (Phase(0.8, **_LONG),)))),
        Case("increasing", (Tenant("steady", (Phase(0.4),), paced=True), Tenant("rising", _RISING))),
        Case("shift", (Tenant("a", _SHIFTING), Tenant("b", _SHIFTED))),
        Case("calm", (Tenant("a", (Phase(0.25),)), Tenant("b", (Phase(0.25),)))),
        Case("flood", (Tenant("light", (Phase(0.3),), paced=True), Tenant("flood", (Phase(0.5 * FLOODS[-1]),)))),
        Case("background", (Tenant("chats", (Phase(0.4),), paced=True), Tenant("batch", (Phase(1.6),), flex=True))),
    )
}

ALONE, CHATS, BATCH, BESIDE = "light alone", "chats alone", "background alone", "chats beside background"


def flood(times: int) -> str:
    """Return the name of the scene in which a tenant floods with so many times its share."""
    return f"flood x{times}"


SCENES = (
    *(Scene(name, name) for name in CASES if name not in {"flood", "background"}),
    Scene(ALONE, "flood", ("vtc",), {"flood": 0}),
    *(Scene(flood(times), "flood", every={"flood": FLOODS[-1] // times}) for times in FLOODS),
    Scene(CHATS, "background", ("vtc",), {"batch": 0}),
    Scene(BATCH, "background", ("vtc",), {"chats": 0}),
    Scene(BESIDE, "background", ("vtc",)),
)
