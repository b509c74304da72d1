#!/bin/sh
# Starts the server with the container's arguments.
#
# Numba uses a cache only if it can write there, and the root file system may be read-only, so the baked kernels (some
# 15 MB) are copied to /tmp first. Kernels for another model or CPU are compiled there when they are first needed.
set -eu
here=$(dirname "$0")
state=/tmp/fastswitch
mkdir -p "$state"
cp -R "$here/kernels" "$state"
export NUMBA_CACHE_DIR="$state/kernels"

level=$("$here/cpu-levels.sh" | head -n 1)
if [ -n "$level" ] && [ -z "${FASTSWITCH_CPU_FEATURES:-}${NUMBA_CPU_NAME:-}" ]; then
    export FASTSWITCH_CPU_FEATURES="$level"
fi

# The health check reads the port from these.
if [ $# -gt 0 ]; then printf '%s\0' "$@"; fi > "$state/arguments"
exec fastswitch serve "$@"
