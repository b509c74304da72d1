"""Accounts of what each tenant has under way, and the tenants' limits.

They belong to the event loop. They learn of turns when these are posted, and of tokens, starts and ends from core's
events, as the metrics do; core knows nothing of limits. Without keys there are no accounts.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.api.access.spending import Spending
from service.api.access.tenants import ANONYMOUS, Tenant
from service.core.messages.events import Event, Finished, Preempted, Refused, Served, Started, TokenOut
from service.engine import Turn
from service.errors import (
    InvalidRequestError,
    OverloadedError,
    QueueLimitError,
    RequestLimitError,
    SessionLimitError,
    TokenLimitError,
)
from service.telemetry.tenants import TenantMeter, TenantMetrics


@dataclass(slots=True)
class Account:
    """One tenant's account. ``tenant`` is as the key file last had it, so that changed limits hold at once."""

    tenant: Tenant
    meter: TenantMeter
    open_requests: int = 0
    open_sessions: int = 0
    waiting: set[str] = field(default_factory=set)
    spending: Spending = field(default_factory=Spending)


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account as operators see it. ``tokens_left``: of this minute; None without a limit."""

    tenant: str
    weight: float
    open_requests: int
    open_sessions: int
    tokens_left: int | None


class Accounts:
    """All tenants' accounts.

    Always true: what is open or waiting belongs to a request that has not ended.
    """

    def __init__(self, metrics: TenantMetrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._charged: dict[str, tuple[Account, int]] = {}  # until a request ends: who pays, and its prompt tokens

    @contextmanager
    def enter(self, tenant: Tenant) -> Iterator[None]:
        """Count a request as open during the block. Raises `RequestLimitError` or `TokenLimitError`."""
        if tenant is ANONYMOUS:
            yield
            return
        account = self._account(tenant)
        limit = tenant.max_requests
        if limit is not None and account.open_requests >= limit:
            raise self._refusal(account, RequestLimitError(f"this key has {limit} requests open, which is its limit"))
        self._check_tokens(account, 1)
        account.open_requests += 1
        account.meter.open_requests.inc()
        try:
            yield
        finally:
            account.open_requests -= 1
            account.meter.open_requests.dec()

    def admit(self, turns: Sequence[Turn]) -> None:
        """Charge for turns that are about to be posted together. Choices of one prompt pay for it once.

        Raises `QueueLimitError`, `TokenLimitError` or, if the turns could never wait together, `InvalidRequestError`.
        """
        account = self._accounts.get(turns[0].submit.tenant)
        if account is None:
            return
        prompts = {id(turn.submit.prompt): turn for turn in turns}
        tokens = {turn.submit.request_id: len(turn.submit.prompt) for turn in prompts.values()}
        self._check_queue(account, len(turns))
        self._check_tokens(account, sum(tokens.values()))
        self._spend(account, sum(tokens.values()))
        for turn in turns:
            request_id = turn.submit.request_id
            self._charged[request_id] = account, tokens.get(request_id, 0)
            account.waiting.add(request_id)
        account.meter.waiting.set(len(account.waiting))

    def observe(self, event: Event) -> None:
        """Account for one of core's events."""
        match event:
            case TokenOut(request_id=request_id) if request_id in self._charged:
                account, _ = self._charged[request_id]
                self._spend(account, 1)
                account.meter.generated.inc()
            case Started(request_id=request_id) if request_id in self._charged:
                self._leave_queue(self._charged[request_id][0], request_id)
            case Preempted(request_id=request_id, reason=reason) if request_id in self._charged:
                self._metrics.preempted(self._charged[request_id][0].tenant.name, reason)
            case Finished(request_id=request_id) if request_id in self._charged:
                account, prompt = self._charged.pop(request_id)
                self._leave_queue(account, request_id)
                account.meter.prompt_tokens.inc(prompt)
            case Refused(request_id=request_id) if request_id in self._charged:
                account, prompt = self._charged.pop(request_id)
                self._spend(account, -prompt)
                self._leave_queue(account, request_id)
            case Served():
                self._count_service(event)

    def open_session(self, tenant: Tenant) -> None:
        """Count a session that opens. Raises `SessionLimitError`."""
        if tenant is ANONYMOUS:
            return
        account = self._account(tenant)
        limit = tenant.max_sessions
        if limit is not None and account.open_sessions >= limit:
            raise self._refusal(account, SessionLimitError(f"this key has {limit} sessions open, which is its limit"))
        account.open_sessions += 1
        account.meter.open_sessions.inc()

    def close_session(self, tenant: Tenant) -> None:
        """Count a session that was opened as gone."""
        if tenant is not ANONYMOUS:
            account = self._accounts[tenant.name]  # `tenant` is as old as the session: its limits may have changed
            account.open_sessions -= 1
            account.meter.open_sessions.dec()

    def views(self) -> list[AccountView]:
        """Return every account there is."""
        return [self._view(account) for account in self._accounts.values()]

    def _account(self, tenant: Tenant) -> Account:
        account = self._accounts.get(tenant.name)
        if account is None:
            account = self._accounts[tenant.name] = Account(tenant, self._metrics.meter(tenant.name))
        account.tenant = tenant
        return account

    def _check_queue(self, account: Account, more: int) -> None:
        limit, waiting = account.tenant.max_queue, len(account.waiting)
        if limit is None:
            return
        if more > limit:
            raise InvalidRequestError(f"{more} answers were requested at once; this key may have {limit} waiting")
        if waiting + more > limit:
            message = f"{waiting} answers of this key are waiting and {more} more were requested; its limit is {limit}"
            raise self._refusal(account, QueueLimitError(message))

    def _check_tokens(self, account: Account, tokens: int) -> None:
        per_minute = account.tenant.tokens_per_minute
        if per_minute is None:
            return
        wait_s = account.spending.wait_s(tokens, per_minute, self._clock())
        if wait_s:
            message = f"this key has used up its {per_minute} tokens a minute; try again in {wait_s:.0f} s"
            raise self._refusal(account, TokenLimitError(message, retry_after_s=wait_s))

    def _spend(self, account: Account, tokens: int) -> None:
        if (per_minute := account.tenant.tokens_per_minute) is not None:
            account.spending.add(tokens, per_minute, self._clock())

    def _refusal(self, account: Account, error: OverloadedError) -> OverloadedError:
        self._metrics.limited(account.tenant.name, error.code)
        return error

    def _count_service(self, served: Served) -> None:
        for tenant, service in served.tenants:
            if (account := self._accounts.get(tenant)) is not None:  # without keys a caller's name is no label
                account.meter.service.inc(service)

    def _leave_queue(self, account: Account, request_id: str) -> None:
        account.waiting.discard(request_id)
        account.meter.waiting.set(len(account.waiting))

    def _view(self, account: Account) -> AccountView:
        per_minute = account.tenant.tokens_per_minute
        left = None if per_minute is None else int(account.spending.left(per_minute, self._clock()))
        tenant = account.tenant
        return AccountView(tenant.name, tenant.weight, account.open_requests, account.open_sessions, left)
