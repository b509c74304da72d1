"""`python -m benchmarks.quality`: how far each way to compute is from float32, over prose and reference answers.

llama.cpp's perplexity stands beside ours if its llama-perplexity is given; docs/peers.md says how to get it.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.quality import answers, llama_cpp
from benchmarks.quality.measure import WINDOW, broken, figures, measure, windows_of
from benchmarks.quality.modes import MODES, REFERENCE, load
from benchmarks.quality.prose import SHA256, prose
from benchmarks.record import RESULTS, commit, store
from service.execution.models.loading import default_model_path, open_model


def main() -> int:
    """Measure, store and show, and return 1 if a bound is broken."""
    flags = parsed(sys.argv[1:])
    commit()
    model, text = default_model_path(), prose()
    result: dict[str, Any] = {"model": model.name, "prose_sha256": SHA256, **measured(flags.windows, text)}
    if flags.llama_perplexity:
        result["llama_cpp"] = asdict(llama_cpp.run(flags.llama_perplexity, model, text))
    show(result)
    print(f"stored in {store('quality', result, folder=flags.results)}")
    return 1 if any(result["broken"].values()) else 0


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """Return the flags; ends the process if they are wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--llama-perplexity", metavar="PROGRAM", help="unset: llama.cpp is left out")
    parser.add_argument("--windows", type=int, metavar="N", help=f"of {WINDOW} tokens; unset: all of the prose")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="default: %(default)s")
    return parser.parse_args(words)


def measured(num_windows: int | None, text: str) -> dict[str, Any]:
    """Return each mode's figures, and what of them is out of bounds."""
    windows = windows_of(open_model().tokenizer.encode(text))[:num_windows]
    modes = {name: load(mode, answers.LONGEST) for name, mode in MODES.items()}
    positions = measure(modes, REFERENCE, windows)
    found = {
        name: {
            "prose": figures(positions[name], positions[REFERENCE]),
            "answers": answers.figures(modes[name]),
        }
        for name in MODES
    }
    out = {name: [line for part in parts.values() for line in broken(part)] for name, parts in found.items()}
    return {"tokens": windows.size, "window": WINDOW, "modes": found, "broken": out}


def show(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print a table, and what is out of bounds."""
    console = console or Console(width=120)
    modes = result["modes"]
    table = Table("", *modes, title=f"quality: {result['tokens']:,} tokens of prose, {len(answers.CASES)} answers")
    for part, names in modes[REFERENCE].items():
        for name in names:
            table.add_row(f"{part}: {name}", *(f"{mode[part][name]:.5g}" for mode in modes.values()))
    console.print(table)
    if "llama_cpp" in result:
        console.print(
            "llama.cpp: perplexity_of_second_half {perplexity_of_second_half:.5g}".format(**result["llama_cpp"])
        )
    for name, lines in result["broken"].items():
        for line in lines:
            console.print(f"{name}: {line}", style="red")


if __name__ == "__main__":
    sys.exit(main())
