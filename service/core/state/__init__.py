"""What core knows: requests, sessions, slots, and the ledger that changes them together."""
