"""The chat-serving microservice."""
