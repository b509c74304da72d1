"""How evenly tenants are served: the cases of the paper on VTC (Sheng et al., OSDI 2024) on the running service."""
