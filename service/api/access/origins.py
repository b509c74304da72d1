"""Keeps other sites' pages, opened in a browser of someone who can reach us, from using the model."""

from urllib.parse import urlsplit

from service.config import is_loopback
from service.errors import ForeignOriginError


def check_origin(origin: str | None, host: str, only_local: bool) -> None:
    """Raise `ForeignOriginError` unless the page was served from ``host``, or no browser is involved.

    Where everybody on this machine may enter, and nobody else (``only_local``), honest pages know a local name only;
    another name that leads here was bent to do so by DNS rebinding. Where keys are needed such a page has none, and
    another name is a proxy's.
    """
    if origin is None:
        return
    if not _is_own(origin, host, only_local):
        raise ForeignOriginError("requests from pages of other sites are not served")


def _is_own(origin: str, host: str, only_local: bool) -> bool:
    try:
        page = urlsplit(origin)
    except ValueError:  # half an IPv6 address
        return False
    if page.scheme not in ("http", "https") or page.netloc.lower() != host.lower():
        return False
    return not only_local or is_loopback(page.hostname or "")
