"""What we measure. `python -m benchmarks [NAME ...]` prints and stores each result under benchmarks/results/."""
