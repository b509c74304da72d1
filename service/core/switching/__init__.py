"""How KV moves between the device and the host, and who gives way for it."""
