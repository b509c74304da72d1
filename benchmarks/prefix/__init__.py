"""What one computed prefix saves, seen from outside: ordinary clients, a crowd on one system prompt, long load."""
