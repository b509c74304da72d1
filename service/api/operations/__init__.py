"""The routes for operators: probes, metrics and debug views."""
