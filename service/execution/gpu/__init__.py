"""The data plane on a GPU: everything it asks of a device goes through `runtime`, of which there are two.

`cuda` is NVIDIA's, `simulated` plays one on the CPU, with delays and faults that tests inject. The rest
of this room is the same code on both.
"""
