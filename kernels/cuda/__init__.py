"""The ops of `kernels.reference` on NVIDIA GPUs: Numba-CUDA kernels for float32, float16 and bfloat16.

Read `kernel` and `ops` first, then `pointwise`, which has the simplest kernels. The modules are in groups:

- launching: `ops`; `drawing_ops` for the ops from logits to tokens; `matrices` for products by cuBLAS; `moves`
- kernels of a layer: `pointwise`, `norms`, `rotary`; `attention` for decodes, `prefill` and `fragments` for chunks
- kernels of a draw: `logits`, `sampling` and `filters`, `logprobs`, which build on `rows` and `masses`; `tokens`
- kernels that copy KV: `copying`
- what all kernels build on: `elements` (types), `reductions`, `words` (instructions, as `device_words` has them)
- between source and device: `compiling`, `ptx_cache`; `simulated` runs kernels on machines without a GPU

All kernels see flat memory in 16-byte vectors, so that a thread moves 16 bytes at a time whatever the type. They are
specialised by element type and head size. `Ops` gets its launch function from the caller.
"""
