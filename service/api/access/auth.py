"""Authentication of requests by API key.

`/health`, `/ready` and the files of the chat page are open. Everything else, routes that do not exist included, needs a
key as soon as keys are configured. Views that show all tenants at once (metrics, debug) need an admin's key.
"""

from collections.abc import Iterator

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from service.api.access.addresses import address_tenant, client_address, parse_address
from service.api.access.caller import Caller
from service.api.access.tenants import ANONYMOUS, Tenant
from service.api.context import CALLER, KEYS, LIMITS, REQUEST_ID, SHARING
from service.api.page.route import FILES
from service.config import is_loopback
from service.errors import AuthenticationError, NotAllowedError

OPEN_ROUTES = frozenset({"/health", "/ready", *FILES})

# A browser's WebSocket can set no other header. The answer names the chosen protocol, never this item.
KEY_SUBPROTOCOL = "fastswitch.key."

FORWARDED_FOR = "X-Forwarded-For"
FORWARDED = ("Forwarded", FORWARDED_FOR, "X-Real-IP")


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests without a valid key, and note the caller of the others."""
    resource = request.match_info.route.resource
    if resource is None or resource.canonical not in OPEN_ROUTES:
        tenant = authenticate(request)
        if tenant is not ANONYMOUS:
            structlog.contextvars.bind_contextvars(tenant=tenant.name)
        request[CALLER] = _caller(request, tenant)
    return await handler(request)


def authenticate(request: web.Request) -> Tenant:
    """Return the tenant whose key the request carries, by the current keys; `ANONYMOUS` if none are configured.

    Raises `AuthenticationError`. A WebSocket connection authenticates again at each turn, so that a withdrawn key stops
    working.
    """
    keys = request.app[KEYS]
    if not keys.required:
        return ANONYMOUS
    key = next(_offered(request), None)
    if key is None:
        raise AuthenticationError("an API key is needed: send the header 'Authorization: Bearer KEY'")
    tenant = keys.find(key)
    if tenant is None:
        raise AuthenticationError("the API key is unknown")
    return tenant


def check_admin(request: web.Request) -> None:
    """Raise `NotAllowedError` unless the caller has an admin's key or, without keys, is a program on this machine."""
    if request.app[KEYS].required:
        if not request[CALLER].tenant.admin:
            raise NotAllowedError("this needs the key of a tenant with admin = true")
    elif not _is_local(request):
        raise NotAllowedError("without API keys this is answered to programs on the same machine only")


def check_metrics_reader(request: web.Request) -> None:
    """Raise `NotAllowedError` if keys are configured and the caller's is not an admin's: metrics show all tenants."""
    if request.app[KEYS].required:
        check_admin(request)


def _caller(request: web.Request, tenant: Tenant) -> Caller:
    proxies, peer = request.app[LIMITS].trusted_proxies, parse_address(request.remote)
    address = client_address(peer, request.headers.getall(FORWARDED_FOR, ()), proxies)
    return Caller(tenant, address_tenant(address), request[REQUEST_ID], request.app[SHARING])


def _offered(request: web.Request) -> Iterator[str]:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield credentials.strip()
    for item in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        if item.strip().startswith(KEY_SUBPROTOCOL):
            yield item.strip().removeprefix(KEY_SUBPROTOCOL)


def _is_local(request: web.Request) -> bool:
    """Return whether a program on this machine asks.

    A proxy on this machine does not count, since it speaks for others, nor does a host name that was made to lead here
    (DNS rebinding).
    """
    try:
        host = (request.url.host or "").strip("[]")
    except ValueError:  # the Host header is not a host
        return False
    proxied = any(name in request.headers for name in FORWARDED)
    return not proxied and is_loopback(request.remote or "") and is_loopback(host)
