"""`make gpu-test` and `make gpu-bench`: whether a GPU computes correctly, and how fast it is.

`test` compares every op, whole answers and the copies with their references; the exit code is 1 if anything is wrong.
`bench` measures. A missed mark does not change its exit code, but is printed. Both store their results under
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
    from benchmarks.gpu.under_test import GPUUnderTest

GROUPS = ("layers", "attention", "draws", "moves", "answers", "swaps", "sanitizer")
MEASURES = ("facts", "links", "swaps", "decode", "prefill", "interference", "idle", "switching")
NOT_HERE = 2
BUDGETS_S = {"test": 400.0, "bench": 520.0}  # after these nothing new begins


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return the exit code."""
    flags = _parser().parse_args(arguments)
    known = GROUPS if flags.what == "test" else MEASURES
    if unknown := set(flags.only or ()) - set(known):
        print(f"{', '.join(sorted(unknown))}: {flags.what} knows {', '.join(known)}", file=sys.stderr)
        return NOT_HERE
    if absent := missing(flags.simulated):
        print(f"not installed: {', '.join(absent)}", file=sys.stderr)
        return NOT_HERE
    restore_numpy_names()
    gpu = _open(flags)
    if gpu is None:
        return NOT_HERE
    return (_test if flags.what == "test" else _bench)(gpu, flags, flags.only or known)


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


def _open(flags: argparse.Namespace) -> "GPUUnderTest | None":
    try:
        from benchmarks.gpu.under_test import open_gpu, simulated_gpu  # noqa: PLC0415 - versions of packages may conflict
        from service.errors import DeviceNotFoundError  # noqa: PLC0415
    except ImportError as error:
        print(f"cannot be imported: {error}", file=sys.stderr)
        return None
    _quiet()
    if flags.simulated:
        return simulated_gpu()
    try:
        return open_gpu(flags.device, tiny=flags.tiny)
    except DeviceNotFoundError as error:
        print(error.message, file=sys.stderr)
        return None


def _quiet() -> None:
    """Silence the service's logs; checks and measurements report failures themselves."""
    import structlog  # noqa: PLC0415

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _test(gpu: "GPUUnderTest", flags: argparse.Namespace, groups: Sequence[str]) -> int:
    from benchmarks.gpu.checks.running import line, run_checks, summary  # noqa: PLC0415
    from benchmarks.gpu.measures.facts import versions  # noqa: PLC0415

    results, path = [], None
    earlier = {each["name"]: each for each in _earlier(gpu, flags, "gpu_test").get("checks", ())}
    about = versions(gpu)
    for result in run_checks(gpu, groups, _budget_s(flags)):
        results.append(result)
        print(line(result), flush=True)
        checks = earlier | {each.name: each.as_dict() for each in results}
        counts = summary([each["outcome"] for each in checks.values()])
        path = _store(gpu, flags, "gpu_test", {**about, "summary": counts, "checks": [*checks.values()]})
    print(summary([each.outcome for each in results]), *_stored_in(path), sep="\n")
    return 1 if any(result.outcome == "failed" for result in results) else 0


def _bench(gpu: "GPUUnderTest", flags: argparse.Namespace, names: Sequence[str]) -> int:
    from benchmarks.gpu.measures.facts import versions  # noqa: PLC0415
    from benchmarks.gpu.measures.marks import MARKS, judged  # noqa: PLC0415
    from benchmarks.gpu.measures.running import take  # noqa: PLC0415

    figures: dict[str, Any] = {**_earlier(gpu, flags, "gpu"), **versions(gpu)}
    path = None
    for name, found, seconds in take(gpu, names, _budget_s(flags)):
        for failing in ("failed", "left_out"):  # stored by an earlier call
            figures.pop(f"{name}_{failing}", None)
        figures |= found
        print(f"{name} ({seconds:.0f} s)", *(f"  {line}" for line in _lines(found)), sep="\n", flush=True)
        path = _store(gpu, flags, "gpu", {**figures, "marks": judged(figures)})
    print(*(mark.line(figures) for mark in MARKS), *_stored_in(path), sep="\n")
    if gpu.simulated:
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


def _earlier(gpu: "GPUUnderTest", flags: argparse.Namespace, name: str) -> dict[str, Any]:
    """Return the stored figures of the same device and commit if this call runs only a part and adds to them."""
    from benchmarks.record import RESULTS, commit  # noqa: PLC0415

    path = (flags.output or RESULTS) / f"{name}.json"
    if not flags.only or _stores_nothing(gpu, flags) or not path.exists():
        return {}
    stored = json.loads(path.read_text())
    here = gpu.described(), (flags.commit or commit()).rstrip("+")  # the first part's result marks the tree as changed
    figures: dict[str, Any] = stored["figures"] if (stored["hardware"], stored["commit"].rstrip("+")) == here else {}
    return figures


def _stores_nothing(gpu: "GPUUnderTest", flags: argparse.Namespace) -> bool:
    """Return whether figures are not to be stored: those of a simulated device or of tiny sizes."""
    return gpu.simulated or bool(flags.tiny)


def _stored_in(path: Path | None) -> list[str]:
    return [] if path is None else [f"stored in {path}"]


def _store(gpu: "GPUUnderTest", flags: argparse.Namespace, name: str, figures: dict[str, Any]) -> Path | None:
    """Store all results so far, in case the rest takes too long."""
    from benchmarks.record import RESULTS, store  # noqa: PLC0415

    if _stores_nothing(gpu, flags):
        return None
    folder = flags.output or RESULTS
    return store(name, figures, folder=folder, measured_on=gpu.described(), measured_commit=flags.commit)


if __name__ == "__main__":
    sys.exit(main())
