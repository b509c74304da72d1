"""Runs side by side, with intervals: `fastswitch load compare`."""
