#!/bin/sh
# Compiles the kernels of the default model for each level of this CPU, so that a new container need not.
set -eu
here=$(dirname "$0")
export NUMBA_CACHE_DIR="$here/kernels"

warm_up() {
    FASTSWITCH_CPU_FEATURES=$1 /opt/fastswitch/bin/python - <<'PYTHON'
import os

from service.cli.main import limit_instructions
from service.config import ServeSettings

settings = ServeSettings(device="cpu")
limit_instructions(settings.cpu_features, os.environ)

from service.cli.serve import build

build(settings)
PYTHON
}

levels=$("$here/cpu-levels.sh")
for level in ${levels:-auto}; do
    warm_up "$level"
done
chmod -R a+rX "$NUMBA_CACHE_DIR"
