"""Which sites' pages may use the model through a browser that can reach the server: its own, and those allowed.

An allowed page's browser asks first, without a key, and then wants to read in each answer that the page may have it.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from service.api.context import LIMITS
from service.config import is_loopback
from service.errors import ForeignOriginError

ANY = "*"

# What a page may send and read: bodies of JSON, keys, and the headers by which clients find a request and come back.
_PREFLIGHT = {
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST, OPTIONS",
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: ANY + ", Authorization",  # the star does not stand for this one
    hdrs.ACCESS_CONTROL_MAX_AGE: "600",
}
_READABLE = "X-Request-Id, Retry-After"


def check_origin(origin: str | None, host: str, only_local: bool, allowed: Collection[str] = ()) -> None:
    """Raise `ForeignOriginError` unless the page is from ``host`` or an ``allowed`` site, or no browser is involved.

    If only programs on this machine may connect, without keys (``only_local``), honest pages know a local name only;
    any other name that leads here was made to do so by DNS rebinding. Where keys are required, such a page has none,
    and another name is a proxy's.
    """
    if origin is None or _is_allowed(origin, allowed):
        return
    if not _is_own(origin, host, only_local):
        raise ForeignOriginError("requests from pages of other sites are not served")


def preflight(request: web.Request) -> web.Response | None:
    """Return the answer to a browser that asks whether an allowed page may send a request; None for any other."""
    is_asked = request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    if not is_asked or not _is_allowed(request.headers.get(hdrs.ORIGIN), request.app[LIMITS].allowed_origins):
        return None
    return web.Response(status=204, headers=_PREFLIGHT)


async def let_allowed_pages_read(request: web.Request, response: web.StreamResponse) -> None:
    """Say in an answer that an allowed page may read it. A signal handler: runs before headers are sent."""
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and _is_allowed(origin, request.app[LIMITS].allowed_origins):
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _READABLE
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)


def _is_allowed(origin: str | None, allowed: Collection[str]) -> bool:
    return origin is not None and (ANY in allowed or origin.lower() in allowed)


def _is_own(origin: str, host: str, only_local: bool) -> bool:
    try:
        page = urlsplit(origin)
    except ValueError:  # an incomplete IPv6 address
        return False
    if page.scheme not in ("http", "https") or page.netloc.lower() != host.lower():
        return False
    return not only_local or is_loopback(page.hostname or "")
