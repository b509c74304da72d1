"""Observers of core's events, and the form of logs.

Read `metrics` first: it passes events on to `switches` and `fairness`; `tenants` and `devices` are set by the API and
the command. `trace_recorder` writes what arrives as a trace, and `logs` sets up the log.
"""
