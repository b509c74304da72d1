"""Who may come in: keys, tenants and their limits."""
