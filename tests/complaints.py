"""What a command that fails says to a person."""


def complaint(stderr: str) -> str:
    """Return its only line that is not of the log: where a start is slow, lines about its progress come before."""
    (line,) = (line for line in stderr.splitlines() if not line.startswith("{"))
    return line
