"""The same core on a simulated data plane and a virtual clock.

Read `driver` first: plan -> run -> commit without threads. `runner` draws tokens from hashes, `copier` is a link that
can be slow, out of order and fail, and `pools` are the blocks that both read and write.
"""
