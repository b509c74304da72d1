"""Exits with 0 if the container's server is alive: asks /health at the address that its settings name."""

import sys
from pathlib import Path
from urllib.request import urlopen

from service.config import local_url, parse

ARGUMENTS = Path("/tmp/fastswitch/arguments")  # written by entrypoint.sh
TIMEOUT_S = 4.0


def main() -> int:
    """Ask once. Return the exit code."""
    settings = parse(ARGUMENTS.read_text(encoding="utf-8").split("\0")[:-1])
    try:
        with urlopen(f"{local_url(settings.host, settings.port)}/health", timeout=TIMEOUT_S) as answer:
            return 0 if answer.status == 200 else 1
    except OSError as error:  # urllib raises it for a refused connection, a time-out and a 503
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
