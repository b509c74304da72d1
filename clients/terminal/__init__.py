"""The chat in the terminal, and `fastswitch status`."""
