"""What the process takes of the machine that it runs on, and may take."""
