"""The data plane on a GPU: everything it asks of a device goes through `runtime`, of which there are two.

`cupy_runtime` is NVIDIA's, `simulated_runtime` plays one on the CPU, with delays and faults that tests inject. The rest
of this room is the same code on both.
"""
