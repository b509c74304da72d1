"""All that goes into core and comes out of it: frozen values without arrays."""
