"""The data plane: it computes the steps that core plans, copies KV, and decides nothing.

Start with `runner.py`, which runs a plan on a CPU: `batch.py` makes arrays of its rows, `model.py` is the forward pass,
`sampler.py` draws the tokens that `draws.py` describes. `bundles.py` and `memory.py` are how these arrays are declared
and where they live, `kv.py` and `copier.py` the pools of KV and the copies between them. `models/` goes from a model's
files to weights, tokenizer and text of answers; `gpu/` is the same data plane on NVIDIA's GPUs.
"""
