"""`make gpu-test` and `make gpu-bench`: what is right on a GPU, and how fast it is.

`test` holds every op, whole answers and the copies against what defines them; exit code 1 if anything is wrong.
`bench` measures; it does not judge by its exit code, but says which marks are missed. Both store what they found under
benchmarks/results, as gpu_test.json and gpu.json, and take under ten minutes on one H100. Without a GPU, or without the
packages for one, the exit code is 2.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.requirements import missing, restore_numpy_names

if TYPE_CHECKING:
    from benchmarks.gpu.rig import Rig

GROUPS = ("layers", "attention", "draws", "moves", "answers", "swaps", "sanitizer")
MEASURES = ("facts", "links", "swaps", "decode", "prefill", "interference", "idle", "switching")
NOT_HERE = 2
BUDGETS_S = {"test": 400.0, "bench": 520.0}  # after which nothing new is begun


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    flags = _parser().parse_args(arguments)
    known = GROUPS if flags.what == "test" else MEASURES
    if unknown := set(flags.only or ()) - set(known):
        print(f"{', '.join(sorted(unknown))}: {flags.what} knows {', '.join(known)}", file=sys.stderr)
        return NOT_HERE
    if absent := missing(flags.simulated):
        print(f"not installed: {', '.join(absent)}", file=sys.stderr)
        return NOT_HERE
    restore_numpy_names()
    rig = _open(flags)
    if rig is None:
        return NOT_HERE
    return (_test if flags.what == "test" else _bench)(rig, flags, flags.only or known)


def _parser() -> argparse.ArgumentParser:
    described = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__, formatter_class=described)
    parser.add_argument("what", choices=("test", "bench"))
    parser.add_argument("--device", type=int, default=0, metavar="N", help="as CUDA counts (default: 0)")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help=f"test: {', '.join(GROUPS)}; bench: {', '.join(MEASURES)}"
    )
    parser.add_argument("--simulated", action="store_true", help="tiny, on a simulated device; nothing is stored")
    parser.add_argument("--tiny", action="store_true", help="the sizes of --simulated on the GPU; nothing is stored")
    budgets = ", ".join(f"{what} {seconds:.0f}" for what, seconds in BUDGETS_S.items())
    parser.add_argument("--budget", type=float, metavar="SECONDS", help=f"begin nothing after (default: {budgets})")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="of the results (default: benchmarks/results)")
    parser.add_argument("--commit", metavar="NAME", help="what is measured, where git cannot say")
    return parser


def _budget_s(flags: argparse.Namespace) -> float:
    default = BUDGETS_S[flags.what]
    return default if flags.budget is None else float(flags.budget)


def _open(flags: argparse.Namespace) -> "Rig | None":
    try:
        from benchmarks.gpu.rig import open_gpu, simulated  # noqa: PLC0415 - packages may not go together
        from service.errors import DeviceNotFoundError  # noqa: PLC0415
    except ImportError as error:
        print(f"cannot be imported: {error}", file=sys.stderr)
        return None
    _quiet()
    if flags.simulated:
        return simulated()
    try:
        return open_gpu(flags.device, tiny=flags.tiny)
    except DeviceNotFoundError as error:
        print(error.message, file=sys.stderr)
        return None


def _quiet() -> None:
    """Failures are told by what they are found by."""
    import structlog  # noqa: PLC0415

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _test(rig: "Rig", flags: argparse.Namespace, groups: Sequence[str]) -> int:
    from benchmarks.gpu.measures.facts import versions  # noqa: PLC0415
    from benchmarks.gpu.testing import line, run_checks, summary  # noqa: PLC0415

    results, path = [], None
    earlier = {each["name"]: each for each in _earlier(rig, flags, "gpu_test").get("checks", ())}
    about = versions(rig)
    for result in run_checks(rig, groups, _budget_s(flags)):
        results.append(result)
        print(line(result), flush=True)
        checks = earlier | {each.name: each.told() for each in results}
        told = summary([each["outcome"] for each in checks.values()])
        path = _store(rig, flags, "gpu_test", {**about, "summary": told, "checks": [*checks.values()]})
    print(summary([each.outcome for each in results]), *_told(path), sep="\n")
    return 1 if any(result.outcome == "failed" for result in results) else 0


def _bench(rig: "Rig", flags: argparse.Namespace, names: Sequence[str]) -> int:
    from benchmarks.gpu.marks import MARKS, judged  # noqa: PLC0415
    from benchmarks.gpu.measures.facts import versions  # noqa: PLC0415
    from benchmarks.gpu.measuring import take  # noqa: PLC0415

    figures: dict[str, Any] = {**_earlier(rig, flags, "gpu"), **versions(rig)}
    path = None
    for name, found, seconds in take(rig, names, _budget_s(flags)):
        for failing in ("failed", "left_out"):  # an earlier call's
            figures.pop(f"{name}_{failing}", None)
        figures |= found
        print(f"{name} ({seconds:.0f} s)", *(f"  {line}" for line in _lines(found)), sep="\n", flush=True)
        path = _store(rig, flags, "gpu", {**figures, "marks": judged(figures)})
    print(*(mark.line(figures) for mark in MARKS), *_told(path), sep="\n")
    if rig.simulated:
        print("a simulated device: none of these figures means anything")
    return 1 if any(name.endswith("_failed") for name in figures) else 0


def _lines(figures: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name:40}{f'{value:,.4g}' if isinstance(value, float) else value}")
    return lines


def _earlier(rig: "Rig", flags: argparse.Namespace, name: str) -> dict[str, Any]:
    """Figures that are stored of the same device and commit, where this call does a part: it adds to them."""
    from benchmarks.record import RESULTS, commit  # noqa: PLC0415

    path = (flags.output or RESULTS) / f"{name}.json"
    if not flags.only or _stores_nothing(rig, flags) or not path.exists():
        return {}
    stored = json.loads(path.read_text())
    here = rig.described(), (flags.commit or commit()).rstrip("+")  # which the first part made of it
    figures: dict[str, Any] = stored["figures"] if (stored["hardware"], stored["commit"].rstrip("+")) == here else {}
    return figures


def _stores_nothing(rig: "Rig", flags: argparse.Namespace) -> bool:
    """Of a simulated device, or of tiny sizes."""
    return rig.simulated or bool(flags.tiny)


def _told(path: Path | None) -> list[str]:
    return [] if path is None else [f"stored in {path}"]


def _store(rig: "Rig", flags: argparse.Namespace, name: str, figures: dict[str, Any]) -> Path | None:
    """All so far, in case that the rest takes too long."""
    from benchmarks.record import RESULTS, store  # noqa: PLC0415

    if _stores_nothing(rig, flags):
        return None
    folder = flags.output or RESULTS
    return store(name, figures, folder=folder, measured_on=rig.described(), measured_commit=flags.commit)


if __name__ == "__main__":
    sys.exit(main())
