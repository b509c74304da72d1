"""WS /v1/chat/stream: conversations that outlive their connections. docs/wire.md is the protocol.

route         accepts a connection
connection    reads and writes one connection
sessions      all sessions: who may open which, and when they end
session       one conversation: its history, its turn, and its reader
turn          runs a turn in the engine
outlet        what a connection has sent of a session, and what it still has to send
answer        an answer's text in numbered pieces
frames, codec the frames of the protocol, and their two encodings
"""
