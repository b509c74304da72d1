"""The chat page at `/`: a client of the chat stream in the browser, and a view of all sessions for operators.

route    serves the files, which hold no user's data and need no key
static/  the page itself: plain HTML, CSS and modules, without a build step or anything from other sites

app           puts the parts together, and shows problems on top
dialogue      the conversation on the screen
conversation  keeps the conversation and its turn through reloads and broken connections
connection    one WebSocket of the chat stream
states        the pane of all sessions, for operators
shares        the tenants' bars in that pane
server        HTTP requests with the key, and the server's errors
store         what outlives a reload
elements      makes elements out of text, never out of HTML
"""
