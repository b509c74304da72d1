"""Measure the limits of this machine, and what each kernel of a step reaches of them.

Stores benchmarks/results/roofline.json, draws docs/roofline.svg and writes its table to docs/roofline.md.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numba
from rich.console import Console

from benchmarks.record import commit, store
from benchmarks.roofline.limits import measure
from benchmarks.roofline.measure import STEPS, Measured, others
from benchmarks.roofline.models import MODELS
from benchmarks.roofline.page import QUIET_CORES, page
from benchmarks.roofline.plot import draw

DOCS = Path(__file__).parents[2] / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.roofline", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.3, help="for each kind of operation in each step (0.3)")
    parser.add_argument("--folder", type=Path, help="store results and page there instead")
    flags = parser.parse_args()
    commit()
    figures = run(flags.seconds)
    console = Console(width=140)
    written = page(figures)
    console.print(written, markup=False, soft_wrap=True)
    if figures["other_cores"] > QUIET_CORES:
        console.print(f"others kept {figures['other_cores']:.1f} cores busy; repeat on an idle machine", style="red")
    docs = flags.folder or DOCS
    stored = store("roofline", figures, **({"folder": flags.folder} if flags.folder else {}))
    (docs / "roofline.svg").write_text(draw(figures))
    (docs / "roofline.md").write_text(written)
    console.print(f"stored in {stored}")


def run(seconds: float) -> Mapping[str, Any]:
    """Return all figures."""
    with others() as other_cores:
        limits, alone = measure(), measure(threads=1)
        models = {}
        for name, load in MODELS.items():
            measured = Measured(*load())
            models[name] = {label: measured.step(step, limits, seconds) for label, step in STEPS.items()}
            del measured
        return {
            "threads": numba.get_num_threads(),
            "other_cores": other_cores(),
            "limits": asdict(limits),
            "limits_of_one_thread": asdict(alone),
            "models": {name: {label: _plain(step) for label, step in steps.items()} for name, steps in models.items()},
        }


def _plain(step: Mapping[str, Any]) -> dict[str, Any]:
    return {**step, "kinds": {kind: asdict(each) for kind, each in step["kinds"].items()}}


if __name__ == "__main__":
    main()
