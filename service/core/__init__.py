"""Decisions, and nothing else: no I/O, clocks, threads, CUDA or text. Time is an argument."""
