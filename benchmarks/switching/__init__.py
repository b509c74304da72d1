"""What each mechanism of context switching buys: the presets side by side on the running service."""
