"""Each tenant as operators see it: its requests by state, its share of the recent service, its account."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.api.access.accounts import AccountView
from service.api.access.tenants import ANONYMOUS
from service.core.messages.views import RequestView


@dataclass(frozen=True, slots=True)
class TenantView:
    """One tenant.

    ``running``, ``waiting`` and ``preempted`` count its requests; None if the engine does not answer. ``service`` is
    what it got over the last minutes, ``share`` that over what all got, 0 to 1. ``open_requests``, ``open_sessions``
    and ``tokens_left`` (of this minute) are its account's: None without keys, ``tokens_left`` also without a limit.
    """

    tenant: str
    weight: float
    running: int | None
    waiting: int | None
    preempted: int | None
    service: float
    share: float
    open_requests: int | None
    open_sessions: int | None
    tokens_left: int | None


def tenant_views(
    accounts: Iterable[AccountView], requests: Sequence[RequestView] | None, services: Mapping[str, float]
) -> list[TenantView]:
    """Return all tenants that have an account, a live request or recent service, those with most service first."""
    account_of = {account.tenant: account for account in accounts}
    states = Counter((request.tenant, request.state) for request in requests or ())
    served = sum(services.values())
    names = {*account_of, *services, *(tenant for tenant, _ in states)}

    def view(name: str) -> TenantView:
        account = account_of.get(name)
        running, waiting, preempted = (
            None if requests is None else states[name, state] for state in ("running", "waiting", "preempted")
        )
        return TenantView(
            tenant=name,
            weight=ANONYMOUS.weight if account is None else account.weight,
            running=running,
            waiting=waiting,
            preempted=preempted,
            service=services.get(name, 0.0),
            share=services.get(name, 0.0) / served if served else 0.0,
            open_requests=None if account is None else account.open_requests,
            open_sessions=None if account is None else account.open_sessions,
            tokens_left=None if account is None else account.tokens_left,
        )

    return sorted(map(view, names), key=lambda view: (-view.service, view.tenant))
