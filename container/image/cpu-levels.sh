#!/bin/sh
# Prints the levels of x86-64 that the image bakes kernels for and this CPU has, best first; nothing on other machines.
#
# A kernel compiled for the exact CPU that built the image would be useless on another. One for a level is not, and is as
# fast: on Zen 5, v4 (AVX-512) equals the CPU's own name, while v3 (AVX2) takes 2.5 times as long.
loader=/lib64/ld-linux-x86-64.so.2
[ -x "$loader" ] || exit 0
"$loader" --help | awk '/^ *x86-64-v[34] \(supported/ { print $1 }'
