"""The ops of `kernels.reference` on NVIDIA GPUs: Numba-CUDA kernels for float32, float16 and bfloat16.

Read `kernel` and `ops` first, then `pointwise`, which has the simplest kernels. The groups:

- launches: `ops`, and `drawing_ops` from logits to tokens; `matrices` (products, by cuBLAS); `moves`
- a layer: `pointwise`, `norms`, `rotary`, `copying`; `attention` of decodes; `prefill` with `fragments`, of chunks
- a draw: `logits`, `sampling` with `filters`, `logprobs`, `tokens`; all but the last over `rows` and `masses`
- parts of kernels: `elements` (types), `reductions`, `words` (instructions, from `device_words` or `simulated`)
- from source to device: `compiling`, `ptx_cache`; `simulated` runs kernels on machines without a GPU

All kernels see flat memory in 16-byte vectors, so that a thread moves 16 bytes at a time whatever the type. They are
specialised by element type and head size. `Ops` gets its launch function from the caller.
"""
