"""The numerical ops of a model's step: they take arrays and fill arrays.

`kernels.reference` defines each op; `kernels.cpu` and `kernels.cuda` implement the same names, fast. A runner takes one
of them as a value. Nothing here knows requests, weight files or the allocator.
"""
