"""The runtime on NVIDIA's GPUs, over CuPy and Numba-CUDA. Start with `runtime.py`."""
