"""The kernels configure how their threads wait for one another, unless the operator has done so."""

import os
import subprocess
import sys

import pytest

SHOW = "import os, kernels.cpu; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("environment", "shown"), [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "None")]
)
def test_waiting_is_short_unless_the_operator_sets_it(environment: dict[str, str], shown: str) -> None:
    inherited = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", SHOW]
    result = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == shown
