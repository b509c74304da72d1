"""From what was measured to what must hold."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from allocator import BLOCK_TOKENS
from benchmarks.fairness.outcome import Criterion
from benchmarks.peers.outcome import OURS

NONE = "none"  # ours without a prefix cache
VLLM = "vllm"  # names of such peers begin with it

Figures = Mapping[str, Any]


def outcome(parts: Figures) -> dict[str, Any]:
    """Return the result to store: criteria and ratios by name, as far as the parts allow to judge, and the parts.

    - ``later_turns_missed``: later turns that computed a whole block of the prompt before them again.
    - ``unsaid_tokens``: how far what the runner computed is outside what usage says.
    - ``stranger_blocks``: reused by a client that has nothing in common with the one before but a system prompt.
    - ``crowd_blocks_over_wanted``, ``crowd_computed_over_wanted``: against one prefix and every conversation's tail.
    - ``later_ttft_over_first``: of one more prompt behind the crowd, over that of an equally long one with no prefix.
    - ``scarce_answered``, ``scarce_running``: on memory for few; all of the crowd, and at the same time.
    - ``find_us``: finding a prefix where that takes longest; ``steps_over_alone``: plan and commit of requests that may
      share, over those that may not.
    - ``computed_vs_vllm``, ``computed_vs_none``: prompt tokens computed of a trace, over those of the vLLM that
      computed least, and of this server without a prefix cache.
    """
    judges = {"everyday": _everyday, "crowd": _crowd, "cost": _cost, "multi-turn": _multi_turn}
    criteria = [each for name, judge in judges.items() if name in parts for each in judge(parts[name])]
    judged = [{**asdict(each), "holds": each.holds} for each in criteria]
    return {**{each.name: each.value for each in criteria}, "criteria": judged, **parts}


def _everyday(found: Figures) -> Iterator[Criterion]:
    yield _worst("later_turns_missed", {name: each["prompt_missed"] for name, each in found["clients"].items()}, 0)
    strangers = {f"stranger, {each['client']}": each for each in found["strangers"]}
    unsaid = {name: _unsaid(each) for name, each in {**found["clients"], **strangers}.items()}
    yield _worst("unsaid_tokens", unsaid, 0)
    later = list(strangers.items())[1:]
    blocks = {name: each["cached_tokens"] // BLOCK_TOKENS for name, each in later}
    yield _worst("stranger_blocks", blocks, found["sizes"]["system_words"] // BLOCK_TOKENS, at_most=False)


def _unsaid(found: Figures) -> int:
    """Return the tokens computed beyond usage, or missing. A last token that is computed alone counts as decode."""
    unsaid, turns = found["unsaid"], found["turns"]
    return max(unsaid, -unsaid - turns)


def _crowd(found: Figures) -> Iterator[Criterion]:
    ample, scarce, wanted = found["ample"], found["scarce"], found["wanted"]
    yield Criterion("crowd_blocks_over_wanted", ample["blocks_peak"] / wanted["blocks"], 1.0, "ample")
    yield Criterion("crowd_computed_over_wanted", ample["computed_tokens"] / wanted["computed_tokens"], 1.0, "ample")
    if ample["later_ttft_s"] and ample["first_ttft_s"]:
        yield Criterion("later_ttft_over_first", ample["later_ttft_s"] / ample["first_ttft_s"], 0.1, "ample")
    conversations = found["sizes"]["conversations"]
    yield Criterion("scarce_answered", scarce["answered"], conversations, "scarce", at_most=False)
    yield Criterion("scarce_running", scarce["running_peak"], conversations, "scarce", at_most=False)


def _cost(found: Figures) -> Iterator[Criterion]:
    finds = {name: value for name, value in found.items() if name.startswith("find_us_")}
    yield _worst("find_us", finds, 50.0)
    steps = {name: found[name] / found["step_ms_alone"] for name in ("step_ms_apart", "step_ms_shared")}
    yield _worst("steps_over_alone", steps, 1.1)


def _multi_turn(found: Figures) -> Iterator[Criterion]:
    servers = found["servers"]
    peers = {name: server for name, server in servers.items() if name.startswith(VLLM) and not server["failed"]}
    best = min(peers, key=lambda name: peers[name]["computed_tokens"], default="")
    for ratio, other in (("computed_vs_vllm", best), ("computed_vs_none", NONE)):
        if OURS in servers and other in servers and _comparable(servers[OURS], servers[other]):
            value = servers[OURS]["computed_tokens"] / servers[other]["computed_tokens"]
            yield Criterion(ratio, value, 1.0, other)


def _comparable(one: Figures, other: Figures) -> bool:
    """Return whether both answered everything, and counted the same prompts."""
    return not one["failed"] and not other["failed"] and one["prompt_tokens"] == other["prompt_tokens"]


def _worst(name: str, values: Mapping[str, float], limit: float, *, at_most: bool = True) -> Criterion:
    worst = (max if at_most else min)(values, key=values.__getitem__)
    return Criterion(name, values[worst], limit, worst, at_most)
