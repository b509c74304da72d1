"""The perplexity that llama.cpp finds for the same text and file."""

import re
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numba

from benchmarks.quality.measure import WINDOW

FLAGS = "-m {model} -f {prose} -c {window} -t {threads}"


@dataclass(frozen=True, slots=True)
class Found:
    """What it says, over the second half of each window; ``command`` leaves out where its files are."""

    command: str
    version: str
    perplexity_of_second_half: float


def run(program: str, model: Path, text: str) -> Found:
    """Run llama-perplexity. Raises CalledProcessError if it fails, ValueError if it names no perplexity."""
    sizes = {"window": WINDOW, "threads": numba.get_num_threads()}
    with tempfile.TemporaryDirectory() as folder:
        prose = Path(folder) / "prose.txt"
        prose.write_text(text, encoding="utf-8")
        flags = FLAGS.format(model=shlex.quote(str(model)), prose=shlex.quote(str(prose)), **sizes)
        told = _output([program, *shlex.split(flags)])
    final = re.search(r"Final estimate: PPL = ([0-9.]+)", told)
    if final is None:
        raise ValueError(f"{program} names no perplexity; it ends with {told[-200:]!r}")
    version = re.search(r"version: (.*)", _output([program, "--version"]))
    command = f"llama-perplexity {FLAGS.format(model=model.name, prose=prose.name, **sizes)}"
    return Found(command, "unknown" if version is None else version[1].strip(), float(final[1]))


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
