"""The addresses of clients, which are charged where no keys are configured.

Whoever opens a hundred connections has one address still. An IPv6 client is known by its /64, the smallest network that
a provider hands out, in which it chooses its own address as it likes. A header is believed only if a trusted proxy sent
it, since anyone can write one.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

IPV6_PREFIX = 64  # bits that tell clients apart


def parse_address(text: str | None) -> Address | None:
    """Return an address, None if ``text`` is none. An IPv4 address that is mapped into IPv6 is the IPv4 address."""
    try:
        address = ip_address((text or "").strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_trusted(address: Address | None, proxies: Sequence[Network]) -> bool:
    """Return whether the address is a trusted proxy's."""
    return address is not None and any(address in network for network in proxies)


def client_address(peer: Address | None, forwarded: Sequence[str], proxies: Sequence[Network]) -> Address | None:
    """Return the address nearest to us that is not a trusted proxy's; None if the peer has no address.

    ``forwarded`` holds the values of `X-Forwarded-For`, to whose end each proxy adds the address that it serves. What
    stands left of the first address that is not trusted, or is none, may be forged.
    """
    address = peer
    for hop in reversed(",".join(forwarded).split(",")):
        if not is_trusted(address, proxies) or (before := parse_address(hop)) is None:
            break
        address = before
    return address


def address_tenant(address: Address | None) -> str:
    """Return the tenant that a client at the address is charged as: at most 64 characters, one of them a colon.

    Tenants of keys have no colon. All clients without an address, as those of a Unix socket, are one tenant.
    """
    if isinstance(address, IPv6Address):
        return f"address:{IPv6Network((int(address), IPV6_PREFIX), strict=False)}"
    return f"address:{address or 'unknown'}"
