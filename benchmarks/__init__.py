"""Benchmarks. `python -m benchmarks [NAME ...]` prints each result and stores it under benchmarks/results/."""
