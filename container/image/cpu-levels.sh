#!/bin/sh
# Prints the --cpu-features that the image bakes kernels for and this CPU has, best first; nothing on other machines.
#
# A kernel compiled for the exact CPU that built the image would be useless on another. One for a level is not, and has
# the same products: what the levels differ in. Those that few servers need are left out.
/opt/fastswitch/bin/python -m service.machine.cpu_features |
    grep -x -e avx512-bf16 -e avx512-vnni -e avx-vnni -e avx2 || true
