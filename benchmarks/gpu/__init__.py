"""What is checked and measured on a GPU: `python -m benchmarks.gpu test` and `bench`.

It uses the data plane alone and imports little, so that it runs where only CuPy, numba-cuda and the packages that
`requirements` names are installed. ``--simulated`` runs all of it at tiny sizes on the simulated device.
"""
