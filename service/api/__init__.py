"""The service's edge: HTTP in, turns out; outputs in, HTTP out. Nothing else knows JSON or HTTP."""
