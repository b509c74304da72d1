"""What is checked and measured on a GPU: `python -m benchmarks.gpu test` and `bench`.

It stands on the data plane alone and imports little, so that it runs where no more than CuPy, numba-cuda and what
`requirements` names is installed. ``--simulated`` runs all of it, tiny, on the simulated device.
"""
