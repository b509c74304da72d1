"""The data plane: models and their files, text, KV buffers, the runner."""
