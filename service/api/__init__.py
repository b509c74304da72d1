"""The service's edge: HTTP requests become turns, and outputs become answers. No other room knows JSON or HTTP.

Read `routes` first, the table of what is served, then `openai.generate`, which answers a request: `openai.prepare`
makes its turns, and `streams` carries them to the engine and their outputs back. `app` puts everything together.
`access` knows keys and limits, `websocket` the chat stream, `operations` the views for operators.
"""
