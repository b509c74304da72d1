"""``python -m service.cli``: the same as ``fastswitch``."""

import sys

from service.cli.main import main

sys.exit(main())
