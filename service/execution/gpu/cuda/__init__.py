"""The runtime on NVIDIA's GPUs, by CuPy and Numba-CUDA."""
