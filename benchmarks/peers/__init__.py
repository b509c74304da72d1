"""Ours beside other servers: the same weights and the same load on this machine, in alternating rounds."""
