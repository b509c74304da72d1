"""What a step's kernels reach of what this machine can do: bytes and operations against measured limits."""
