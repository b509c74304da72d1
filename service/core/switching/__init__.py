"""How KV moves between the device and the host, and which victims give blocks for it."""
