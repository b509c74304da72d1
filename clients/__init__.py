"""What talks to a FastSwitch server from outside. Nothing here imports the service."""
