"""Observers of core's events: metrics, traces, and the form of logs."""
