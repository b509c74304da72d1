"""The data plane on a GPU. It reaches the device only through the protocols of `runtime.py`.

Start with `runner.py`, which submits a plan's step: `step_memory.py` and `staging.py` carry its inputs and outputs,
`graphs.py` replays decodes. `pools.py`, `pinned_pool.py` and `copier.py` are KV on both sides and the copies between
them. `supported.py`, `budget.py` and `weights.py` are used once, at start. `cuda/` is the runtime on NVIDIA's GPUs;
`simulated/` plays a device on the CPU, with delays and faults that tests inject. The rest is the same code on both.
"""
