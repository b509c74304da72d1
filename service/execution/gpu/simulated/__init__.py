"""The runtime on a device played by the CPU, whose streams are late and fail as tests ask. Start with `runtime.py`."""
