"""Variables of the environment that look like settings and are none: somebody misspelt one."""

from collections.abc import Iterable
from difflib import get_close_matches

import structlog

from service.config import ENV_PREFIX, ServeSettings

log = structlog.get_logger(__name__)

# Read by other commands, or beside the settings.
OTHERS = ("CONFIG", "API_KEY")


def warn_of_unknown(names: Iterable[str]) -> None:
    """Log each of the names that begins as a setting's and is of none, with the one that may have been meant."""
    known = [name.upper() for name in (*ServeSettings.model_fields, *OTHERS)]
    for name in sorted(names):
        setting = name.upper().removeprefix(ENV_PREFIX)
        if name.upper().startswith(ENV_PREFIX) and setting not in known:
            nearest = [ENV_PREFIX + each for each in get_close_matches(setting, known, n=1)]
            log.warning("unknown_variable", name=name, meant=next(iter(nearest), None))
