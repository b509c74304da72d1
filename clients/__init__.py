"""Programs that talk to a FastSwitch server from outside. Nothing here imports the service."""
