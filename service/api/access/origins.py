"""The check that keeps other sites' pages from using the model through a browser that can reach the server."""

from urllib.parse import urlsplit

from service.config import is_loopback
from service.errors import ForeignOriginError


def check_origin(origin: str | None, host: str, only_local: bool) -> None:
    """Raise `ForeignOriginError` unless the page was served from ``host``, or no browser is involved.

    If only programs on this machine may connect, without keys (``only_local``), honest pages know a local name only;
    any other name that leads here was made to do so by DNS rebinding. Where keys are required, such a page has none,
    and another name is a proxy's.
    """
    if origin is None:
        return
    if not _is_own(origin, host, only_local):
        raise ForeignOriginError("requests from pages of other sites are not served")


def _is_own(origin: str, host: str, only_local: bool) -> bool:
    try:
        page = urlsplit(origin)
    except ValueError:  # an incomplete IPv6 address
        return False
    if page.scheme not in ("http", "https") or page.netloc.lower() != host.lower():
        return False
    return not only_local or is_loopback(page.hostname or "")
