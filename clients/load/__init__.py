"""`fastswitch load`: drives a server as many users would, and records what each of them saw."""
