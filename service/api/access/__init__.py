"""Keys, tenants and their limits: who is served, and how much."""
