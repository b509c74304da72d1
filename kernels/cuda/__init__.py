"""The ops of `kernels.reference` on NVIDIA GPUs: Numba-CUDA kernels for float32, float16 and bfloat16.

`Ops` launches; the other modules hold device code, specialised by element type and head size. All kernels see flat
memory in 16-byte vectors, so that a thread moves 16 bytes at a time whatever the type. Matrix products are cuBLAS's.
How a kernel gets onto a device is its caller's: `Ops` takes a launch function. `simulator.launch` is one for machines
without a GPU.
"""
