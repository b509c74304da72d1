"""Greedy answers to the reference prompts under `tests/data`, which transformers gave in float32.

Each is followed token by token, so that one token that differs does not change what is asked of the next.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.modes import LogitsOf

Case = Mapping[
    str, Any
]  # name, prompt, greedy: the answer; gaps: between the two largest logits, for each of its tokens

CASES: list[Case] = json.loads(
    (Path(__file__).parents[2] / "tests" / "data" / "smollm2_greedy.json").read_text(encoding="utf-8")
)["cases"]
LONGEST = max(len(case["prompt"]) + len(case["greedy"]) for case in CASES)


def gaps_of_others(logits_of: LogitsOf, case: Case) -> list[float]:
    """Return the reference's gaps at the tokens of the answer where a mode's most likely token is another."""
    prompt, answer = case["prompt"], case["greedy"]
    chosen = logits_of([*prompt, *answer[:-1]])[len(prompt) - 1 :].argmax(-1)
    return [gap for token, other, gap in zip(answer, chosen, case["gaps"], strict=True) if token != other]


def figures(logits_of: LogitsOf, cases: Iterable[Case] = CASES) -> dict[str, float]:
    """Return how many tokens there are, how many of them are others, and the widest gap at one that is."""
    cases = list(cases)
    gaps = [gap for case in cases for gap in gaps_of_others(logits_of, case)]
    return {
        "tokens": sum(len(case["greedy"]) for case in cases),
        "tokens_that_differ": len(gaps),
        "widest_gap": float(np.max(gaps, initial=0)),
    }
