"""Arrays in, arrays out. `kernels.reference` defines every op; `kernels.cpu` implements the same names, fast.

A runner takes one of these modules as a value. Nothing here knows requests, weights files or the allocator.
"""
