"""What the process may use of its machine, and how it behaves there.

`cpus` and `host_memory` ask the machine and, by `cgroups`, the container for their limits; `cpu_features` says which
instructions there are; `malloc` bounds the heap,
and `interpreter` makes threads share Python's lock sooner.
"""
