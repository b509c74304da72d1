"""WS /v1/chat/stream: conversations that outlive their connections. docs/wire.md is the protocol.

route         takes a connection in
connection    reads and writes one connection
sessions      all sessions: who may open which, and when they end
session       one conversation: its history, its turn, and who reads it
turn          runs a turn in the engine
outlet        what one connection has been given of a session
answer        an answer's text in numbered pieces
frames, codec what goes over the wire
"""
