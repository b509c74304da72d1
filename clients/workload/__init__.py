"""Draws workloads from a seed: load tests and benchmarks get the same conversations."""
