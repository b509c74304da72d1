"""Workloads from a seed: the same conversations for load tests and benchmarks."""
