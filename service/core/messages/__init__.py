"""All that crosses core's border: frozen values without arrays."""
