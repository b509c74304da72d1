"""From the figures of single rounds to medians, spread, and what ours is beside the best of its peers."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OURS = "ours"
KNOWN_PEERS = ("llama-server", "vllm")  # docs/peers.md says how to get them

Round = Mapping[str, float]
Rounds = Mapping[str, Sequence[Round]]  # by server, in order


@dataclass(frozen=True, slots=True)
class Figure:
    """What is compared. ``wanted``: the ratio that ours is to reach, at least where more is better, else at most."""

    name: str
    unit: str
    more_is_better: bool
    wanted: float | None = None


FIGURES = (
    Figure("decode_1", "tokens/s", True),
    Figure("decode_1_own_speed", "tokens/s", True, 1.8),
    Figure("decode_4", "tokens/s", True, 3.5),
    Figure("decode_16", "tokens/s", True, 2.0),
    Figure("prefill", "tokens/s", True, 1.6),
    Figure("tokens_per_s", "tokens/s", True),
    Figure("ttft_p50", "ms", False, 0.5),
    Figure("ttft_p99", "ms", False, 0.5),
    Figure("tbt_p50", "ms", False),
    Figure("tbt_p99", "ms", False, 0.5),
    Figure("rss_mb", "MB", False),
    Figure("start_s", "s", False),
)


def outcome(rounds: Rounds) -> dict[str, Any]:
    """Return medians and spread by server, the ratios to the best peer, and which known peers were left out."""
    return {
        "left_out": [name for name in KNOWN_PEERS if name not in rounds],
        "ratios": ratios(rounds),
        "servers": {name: summary(made) for name, made in rounds.items()},
    }


def summary(made: Sequence[Round]) -> dict[str, dict[str, Any]]:
    """Return each figure's median, its spread, (largest - smallest) / median, and its values by round."""
    names = dict.fromkeys(name for each in made for name in each)
    return {name: _spread([each[name] for each in made if name in each]) for name in names}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    median = statistics.median(values)
    return {"median": median, "spread": (max(values) - min(values)) / median if median else 0.0, "rounds": list(values)}


def ratios(rounds: Rounds) -> dict[str, dict[str, Any]]:
    """Return for each figure that ours and a peer have: the ratio of ours' median to the best peer's, and that peer.

    ``rounds`` has the same ratio within each round; ``holds`` is None where no ratio is wanted.
    """
    found = {}
    for figure in FIGURES:
        values = {name: [each[figure.name] for each in made if figure.name in each] for name, made in rounds.items()}
        ours, peers = values.get(OURS), {name: made for name, made in values.items() if name != OURS and made}
        if ours and peers:
            found[figure.name] = _ratio(figure, ours, peers)
    return found


def _ratio(figure: Figure, ours: Sequence[float], peers: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    medians = {name: statistics.median(made) for name, made in peers.items()}
    best = (max if figure.more_is_better else min)(medians, key=medians.__getitem__)
    ratio = statistics.median(ours) / medians[best]
    return {
        "ratio": ratio,
        "best_peer": best,
        "rounds": [mine / other for mine, other in zip(ours, peers[best], strict=False)],
        "wanted": figure.wanted,
        "holds": None if figure.wanted is None else _reaches(ratio, figure.wanted, figure.more_is_better),
    }


def _reaches(ratio: float, wanted: float, more_is_better: bool) -> bool:
    return ratio >= wanted if more_is_better else ratio <= wanted
