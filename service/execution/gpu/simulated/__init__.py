"""The runtime without a GPU: streams that are late, and devices that fail, as told."""
