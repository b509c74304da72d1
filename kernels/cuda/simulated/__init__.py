"""The simulator, which runs the kernels on a CPU, and the machine instructions as it executes them."""
