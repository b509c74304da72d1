"""The key at the door.

`/health`, `/ready` and the files of the chat page are open. Everything else, routes that do not exist included, needs a
key as soon as keys are configured. What shows all tenants at once (metrics, debug views) needs an admin's.
"""

from collections.abc import Iterator

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from service.api.access.caller import Caller
from service.api.access.tenants import ANONYMOUS, Tenant
from service.api.context import CALLER, CONNECTIONS, KEYS, REQUEST_ID
from service.api.page.route import FILES
from service.config import is_loopback
from service.errors import AuthenticationError, NotAllowedError

OPEN_ROUTES = frozenset({"/health", "/ready", *FILES})

# A browser's WebSocket can send no header but this list; our answer names the protocol it chose, never this item.
KEY_SUBPROTOCOL = "fastswitch.key."

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse whoever has no good key, and note who the others are."""
    resource = request.match_info.route.resource
    if resource is None or resource.canonical not in OPEN_ROUTES:
        tenant = authenticate(request)
        if tenant is not ANONYMOUS:
            structlog.contextvars.bind_contextvars(tenant=tenant.name)
        request[CALLER] = Caller(tenant, request.app[CONNECTIONS].name(request), request[REQUEST_ID])
    return await handler(request)


def authenticate(request: web.Request) -> Tenant:
    """Whose key the request carries, by the keys of now; `ANONYMOUS` if none are configured.

    Raises `AuthenticationError`. A connection that lives long asks again at each turn, lest a withdrawn key live on.
    """
    keys = request.app[KEYS]
    if not keys.required:
        return ANONYMOUS
    key = next(_offered(request), None)
    if key is None:
        raise AuthenticationError("an API key is needed: send the header 'Authorization: Bearer KEY'")
    tenant = keys.find(key)
    if tenant is None:
        raise AuthenticationError("the API key is not known here")
    return tenant


def check_admin(request: web.Request) -> None:
    """Let operators pass: an admin's key or, where nobody needs one, somebody at this machine.

    Raises `NotAllowedError`.
    """
    if request.app[KEYS].required:
        if not request[CALLER].tenant.admin:
            raise NotAllowedError("this needs the key of a tenant with admin = true")
    elif not _is_local(request):
        raise NotAllowedError("without API keys this is answered to programs on the same machine only")


def check_metrics_reader(request: web.Request) -> None:
    """Metrics are open until keys are configured; then they are an admin's, since they show all tenants.

    Raises `NotAllowedError`.
    """
    if request.app[KEYS].required:
        check_admin(request)


def _offered(request: web.Request) -> Iterator[str]:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield credentials.strip()
    for item in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        if item.strip().startswith(KEY_SUBPROTOCOL):
            yield item.strip().removeprefix(KEY_SUBPROTOCOL)


def _is_local(request: web.Request) -> bool:
    """Not by a proxy on this machine, which speaks for others, nor by a name bent to lead here (DNS rebinding)."""
    try:
        host = (request.url.host or "").strip("[]")
    except ValueError:  # the Host header is no host
        return False
    proxied = any(name in request.headers for name in FORWARDED)
    return not proxied and is_loopback(request.remote or "") and is_loopback(host)
