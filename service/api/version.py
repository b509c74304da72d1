"""The version of the installed package."""

from importlib import metadata


def version() -> str:
    """Return it as people read it."""
    try:
        return metadata.version("fastswitch")
    except metadata.PackageNotFoundError:
        return "(not installed)"
