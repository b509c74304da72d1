"""What each figure means, in one line each: the page shows them, docs/load_report.md states them."""

DEFINITIONS = {
    "due": "When the workload scheduled the turn. Latencies count from here, however late the client sent it.",
    "measured": "All turns but the warm-up's, from when the first was due to when the last ended.",
    "TTFT": "From due to the first piece of the answer; turns with an error are left out.",
    "TBT": "Each gap between two pieces of an answer (an SSE chunk, a token frame), over all turns without an error.",
    "E2E": "From due to the end; turns that ended well.",
    "longest stall": "A turn's longest gap between pieces; max is the run's.",
    "percentile": "NumPy's default, linear between ranks. Marked ~ when fewer than 5 samples are expected above it.",
    "requests/s": "Turns that ended well, over the measured time.",
    "output tokens/s": "Tokens that came, of turns ended well or not, over the measured time; as the server told, "
    "else one a piece.",
    "goodput": "Turns a second that ended well within the SLO: TTFT at most ttft, and the 99th percentile of the "
    "turn's own gaps at most tbt. The share is of all turns but those that the client itself ended; an error misses.",
    "service": "1 a prompt token that was not reused, 2 a token of the answer, over the tenant's weight.",
    "Jain's index": "(sum x)^2 / (n sum x^2) over the tenants' service: 1 all alike, 1/n one has everything.",
    "while all wanted": "The same, counting only service at times when every tenant had a turn open (due, not ended).",
    "sent late": "From due to sent: what the client itself was late, or waited for a place. It is part of the "
    "latencies.",
    "saturated": "When the client saw the server fall behind for good. Latencies after that grow with the run's "
    "length.",
    "tokens in flight": "Prompt tokens and tokens of the answer so far, of all turns sent and not ended.",
    "as the server told": "Sums over the turns for which it told, in usage and in the chat stream's done frames.",
}
