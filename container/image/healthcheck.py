"""Exit code 0 if the container's server is alive: asks /health where its settings say that it listens."""

import sys
from pathlib import Path
from urllib.request import urlopen

from service.config import local_url, parse

ARGUMENTS = Path("/tmp/fastswitch/arguments")  # written by entrypoint.sh
TIMEOUT_S = 4.0


def main() -> int:
    """Ask once."""
    settings = parse(ARGUMENTS.read_text(encoding="utf-8").split("\0")[:-1])
    try:
        with urlopen(f"{local_url(settings.host, settings.port)}/health", timeout=TIMEOUT_S) as answer:
            return 0 if answer.status == 200 else 1
    except OSError as error:  # urllib's errors are: refused, timed out, 503
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
