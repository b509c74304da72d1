"""`fastswitch workload`: writes a trace."""

import sys
from pathlib import Path

from clients.trace import write_trace
from clients.workload.generate import generate
from clients.workload.settings import WorkloadSettings


def run(settings: WorkloadSettings, out: Path) -> int:
    """Draw a trace and write it to ``out``. Return the exit code."""
    trace = generate(settings)
    try:
        write_trace(trace, out)
    except OSError as error:
        print(f"--out {out}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{len(trace.conversations)} conversations of {trace.num_turns} turns in {out}")
    return 0
