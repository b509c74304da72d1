"""The CUDA kernels' own tests, in processes of their own: each file of ``inside`` is one test here.

They need ``.venv-cuda`` (`make cuda-tools`), a gigabyte that the main environment can do without; and Numba reads once,
at its import, whether it simulates.
"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
INSIDE = Path(__file__).parent / "inside"
PYTHON = ROOT / ".venv-cuda" / "bin" / "python"


def run(file: str, *options: str, simulate: bool) -> None:
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON} is missing: run `make cuda-tools`", pytrace=False)
    command = [str(PYTHON), "-m", "pytest", "-c", str(INSIDE / "pytest.ini"), *options, str(INSIDE / file)]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": str(int(simulate)), "COLUMNS": "120"}
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}{done.stderr}", pytrace=False)


def files(pattern: str) -> list[str]:
    return sorted(path.name for path in INSIDE.glob(pattern))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", files("simulated_*.py"))
def test_in_the_simulator(file: str) -> None:
    run(file, "-m", "not full", simulate=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", files("generated_*.py"))
def test_generated_code(file: str) -> None:
    run(file, "-m", "not full", simulate=False)


@pytest.mark.full
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    "file", ["simulated_attention.py", "simulated_logits.py", "simulated_prefill.py", "simulated_sampling.py"]
)
def test_long_sequences_and_whole_vocabularies_in_the_simulator(file: str) -> None:
    run(file, "-m", "full", simulate=True)


@pytest.mark.full
@pytest.mark.timeout(3000)
def test_the_gpu_suites_checks_of_ops_in_the_simulator() -> None:
    run("simulated_suite.py", "-m", "full", simulate=True)


@pytest.mark.full
@pytest.mark.timeout(3000)
def test_generated_code_of_all_types_and_sizes() -> None:
    run("generated_code.py", "-m", "full", simulate=False)


def test_a_failure_inside_is_a_failure_here() -> None:
    with pytest.raises(pytest.fail.Exception, match="no such file"):
        run("no such file", simulate=True)
