"""What operators see of each tenant."""

from dataclasses import fields

import pytest

from service.api.access.accounts import AccountView
from service.api.operations.tenant_views import tenant_views
from service.core.messages.views import RequestView

ALICE = AccountView("alice", weight=2.0, open_requests=3, open_sessions=1, tokens_left=50)


def request(tenant, state):
    return RequestView(
        **dict.fromkeys((each.name for each in fields(RequestView)), 0) | {"tenant": tenant, "state": state}
    )


def test_requests_are_counted_by_state_beside_share_and_account():
    requests = [request("alice", state) for state in ("running", "waiting", "waiting", "preempted")]
    (view,) = tenant_views([ALICE], requests, {"alice": 7.0})
    assert (view.running, view.waiting, view.preempted) == (1, 2, 1)
    assert (view.weight, view.open_requests, view.open_sessions, view.tokens_left) == (2.0, 3, 1, 50)
    assert (view.service, view.share) == (7.0, 1.0)


def test_shares_are_of_all_service_and_the_most_served_comes_first():
    views = tenant_views([ALICE], [], {"alice": 10.0, "user:1": 30.0})
    assert [(view.tenant, view.share) for view in views] == [("user:1", 0.75), ("alice", 0.25)]


@pytest.mark.parametrize(
    ("accounts", "requests", "services"),
    [([ALICE], [], {}), ([], [request("alice", "waiting")], {}), ([], [], {"alice": 1.0})],
)
def test_an_account_a_request_or_recent_service_make_a_tenant_visible(accounts, requests, services):
    assert [view.tenant for view in tenant_views(accounts, requests, services)] == ["alice"]


def test_without_keys_a_tenant_has_weight_1_and_no_account():
    (view,) = tenant_views([], [request("user:1", "running")], {})
    assert (view.weight, view.open_requests, view.open_sessions, view.tokens_left) == (1.0, None, None, None)
    assert (view.running, view.waiting, view.preempted, view.share) == (1, 0, 0, 0.0)


def test_a_silent_engine_leaves_the_counts_unknown():
    (view,) = tenant_views([ALICE], None, {"alice": 7.0})
    assert (view.running, view.waiting, view.preempted, view.share) == (None, None, None, 1.0)
