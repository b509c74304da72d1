#!/bin/sh
# Prints the levels of x86-64 that this CPU has of those the image bakes kernels for, best first. Elsewhere: nothing.
#
# A kernel compiled for the very CPU that built the image would be of no use on another. One for a level is, and is as
# fast: v4 (AVX-512) as the CPU's own name on Zen 5; v3 (AVX2) there takes 2.5 times as long.
loader=/lib64/ld-linux-x86-64.so.2
[ -x "$loader" ] || exit 0
"$loader" --help | awk '/^ *x86-64-v[34] \(supported/ { print $1 }'
