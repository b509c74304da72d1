"""All levels of instructions that this machine has compute the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.machine.cpu_features import compile_for, levels_here

ROOT = Path(__file__).parents[3]


@pytest.mark.full
@pytest.mark.parametrize("level", levels_here())
def test_the_kernels_of_a_level_pass_the_tests_of_this_room(level: str, tmp_path: Path) -> None:
    environment = dict(os.environ)
    compile_for(level, environment)
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-m",
            "not full",
            f"--basetemp={tmp_path / level}",
            str(Path(__file__).parent),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
