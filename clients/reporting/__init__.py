"""From a load test's `Run` to figures, and from figures to a terminal, a CSV file or a page.

docs/load_report.md defines every figure.
"""
