"""The chat page at `/`: a client of the chat stream in the browser, and a view of all sessions for operators.

route    serves the files, which hold nobody's data and need no key
static/  the page itself: plain HTML, CSS and modules, nothing to build and nothing from elsewhere

app           puts the parts together, and says on top what goes wrong
dialogue      the conversation on the screen
conversation  what is kept of it, and its turn, through reloads and broken connections
connection    one WebSocket: which session it opens, frames in, frames out
states        the pane of all sessions
server        HTTP requests with the key, and the server's errors
store         what outlives a reload
elements      makes elements out of text, never out of HTML
"""
