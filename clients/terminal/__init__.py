"""Programs for the terminal: `fastswitch chat` and `fastswitch status`."""
