#!/bin/sh
# Compiles the kernels of the default model for each level of this CPU, so that a new container need not.
set -eu
here=$(dirname "$0")
export NUMBA_CACHE_DIR="$here/kernels"

warm_up() {
    /opt/fastswitch/bin/python - <<'PYTHON'
from service.cli.serve import build
from service.config import ServeSettings

build(ServeSettings(device="cpu"))
PYTHON
}

levels=$("$here/cpu-levels.sh")
[ -n "$levels" ] || warm_up
for level in $levels; do
    NUMBA_CPU_NAME=$level NUMBA_CPU_FEATURES='' warm_up
done
chmod -R a+rX "$NUMBA_CACHE_DIR"
