"""Turns a load test's `Run` into figures, and figures into tables on a terminal, a CSV file or a page.

docs/load_report.md defines every figure.
"""
