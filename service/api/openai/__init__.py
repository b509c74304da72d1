"""The routes that speak OpenAI's protocol: what they take, and the form of their answers."""
