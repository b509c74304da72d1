"""Core decides, and does nothing else: no I/O, clocks, threads, CUDA or text. Time is an argument.

Read `core` first, the only face of this package, then `scheduler`: how a plan is made, and `admission`: for whom.
`state` has requests, sessions and slots; `switching` moves KV between device and host; `policies` rank requests;
`messages` is all that goes in and out. `shadow` tries a policy out without power; `snapshot` is for operators.
"""
