"""The state of core: requests, sessions, slots, and the ledger that changes them together."""
