"""The routes that speak OpenAI's protocol: what they accept, and the form of their answers."""
