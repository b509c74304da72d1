"""Models by name: what a name such as ``org/name:file.gguf@revision`` means, and its files from a Hugging Face hub."""
