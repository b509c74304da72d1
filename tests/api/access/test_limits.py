"""A tenant's limits hold, and affect no other tenant."""

import asyncio
import math

import pytest

from service.api.access.accounts import Accounts
from service.api.access.tenants import ANONYMOUS, Tenant
from service.core.messages.commands import Submit
from service.core.messages.events import Finished, FinishReason, Refused, Served, Started, Timings, TokenOut, Usage
from service.core.messages.sampling import SamplingParams
from service.engine import Turn
from service.errors import InvalidRequestError, QueueLimitError, RequestLimitError, SessionLimitError, TokenLimitError
from service.telemetry.metrics import Metrics


class Desk:
    """Accounts with a clock that the test sets, and short names for events."""

    def __init__(self, **limits) -> None:
        self.now = 1000.0
        self.metrics = Metrics()
        self.accounts = Accounts(self.metrics.tenants, lambda: self.now)
        self.tenant = Tenant(name="a", **limits)

    def admit(self, *names, prompt=10):
        shared = tuple(range(prompt))
        with self.accounts.enter(self.tenant):
            self.accounts.admit([turn(name, shared) for name in names])

    def tokens(self, name, count):
        for index in range(count):
            self.accounts.observe(TokenOut(name, index, 1, None, 0.0))

    @property
    def view(self):
        return self.accounts.views()[0]

    def metric(self, name, tenant="a"):
        return self.metrics.registry.get_sample_value(f"fastswitch_tenant_{name}", {"tenant": tenant})


def turn(name, prompt):
    return Turn(Submit(name, prompt, 5, SamplingParams(), frozenset(), None, tenant="a"))


def finished(name):
    return Finished(name, FinishReason.STOP, Usage(0, 0, 0, 0, 0), Timings(None, None, 0.0))


def test_no_more_requests_than_allowed_are_open():
    desk = Desk(max_requests=1)
    with desk.accounts.enter(desk.tenant), pytest.raises(RequestLimitError), desk.accounts.enter(desk.tenant):
        pass
    with desk.accounts.enter(desk.tenant):
        assert desk.view.open_requests == 1
    assert desk.view.open_requests == 0


def test_no_more_answers_than_allowed_wait():
    desk = Desk(max_queue=2)
    desk.admit("x", "y")
    with pytest.raises(QueueLimitError):
        desk.admit("z")
    desk.accounts.observe(Started("x", 0.0, 0))
    desk.admit("z")
    assert desk.metric("waiting_requests") == 2


def test_answers_that_could_never_wait_together_are_refused_for_good():
    with pytest.raises(InvalidRequestError):
        Desk(max_queue=2).admit("x", "y", "z")


@pytest.mark.parametrize("end", [finished("x"), Refused("x", "server_overloaded", "")])
def test_a_request_that_ends_in_the_queue_leaves_it(end):
    desk = Desk(max_queue=1)
    desk.admit("x")
    desk.accounts.observe(end)
    assert desk.metric("waiting_requests") == 0


def test_prompt_and_answer_are_charged():
    desk = Desk(tokens_per_minute=100)
    desk.admit("x", prompt=10)
    desk.tokens("x", 5)
    assert desk.view.tokens_left == 85


def test_choices_share_their_prompt():
    desk = Desk(tokens_per_minute=100)
    desk.admit("x", "y", prompt=10)
    assert desk.view.tokens_left == 90


def test_a_refused_prompt_costs_nothing():
    desk = Desk(tokens_per_minute=100)
    desk.admit("x", prompt=10)
    desk.accounts.observe(Refused("x", "server_overloaded", ""))
    assert desk.view.tokens_left == 100


def test_the_refusal_says_when_the_tokens_are_there():
    desk = Desk(tokens_per_minute=60)
    desk.admit("x", prompt=50)
    with pytest.raises(TokenLimitError) as caught:
        desk.admit("y", prompt=30)
    desk.now += caught.value.retry_after_s - 0.01
    with pytest.raises(TokenLimitError):
        desk.admit("y", prompt=30)
    desk.now += 0.02
    desk.admit("y", prompt=30)


def test_a_debt_shuts_the_door_until_it_is_forgotten():
    desk = Desk(tokens_per_minute=60)
    desk.admit("x", prompt=50)
    desk.tokens("x", 40)
    with pytest.raises(TokenLimitError) as caught, desk.accounts.enter(desk.tenant):
        pass
    assert caught.value.retry_after_s == pytest.approx(31)  # 30 tokens of debt and one to spend


def test_a_prompt_larger_than_a_minute_passes_when_nothing_was_spent():
    desk = Desk(tokens_per_minute=60)
    desk.admit("x", prompt=500)
    assert desk.view.tokens_left == -440


def test_a_minutes_tokens_are_all_there_ever_are_to_save_up():
    desk = Desk(tokens_per_minute=60)
    desk.admit("x", prompt=1)
    desk.now += 1e6
    assert desk.view.tokens_left == 60


def test_a_changed_limit_holds_at_once():
    desk = Desk(max_requests=1)
    with desk.accounts.enter(desk.tenant), desk.accounts.enter(Tenant(name="a", max_requests=2)):
        assert desk.view.open_requests == 2


def test_no_more_sessions_than_allowed_are_open():
    desk = Desk(max_sessions=1)
    desk.accounts.open_session(desk.tenant)
    with pytest.raises(SessionLimitError):
        desk.accounts.open_session(desk.tenant)
    desk.accounts.close_session(desk.tenant)
    desk.accounts.open_session(desk.tenant)


def test_service_is_counted_for_tenants_with_an_account_alone():
    desk = Desk()
    desk.admit("x")
    assert desk.metric("service_total") == 0
    for service in (10.0, 2.0):
        desk.accounts.observe(Served((("a", service), ("user:8c1f", 7.0), ("connection:3", 5.0))))
    assert desk.metric("service_total") == 12
    assert [desk.metric("service_total", other) for other in ("user:8c1f", "connection:3")] == [None, None]


def test_without_keys_there_are_no_accounts():
    desk = Desk()
    desk.accounts.open_session(ANONYMOUS)
    with desk.accounts.enter(ANONYMOUS):
        assert desk.accounts.views() == []


FLOOD = 20
TIGHT = {
    "request_limit_exceeded": "max_requests = 2",
    "queue_limit_exceeded": "max_queue = 2",
    "token_limit_exceeded": "tokens_per_minute = 50",
}


@pytest.mark.parametrize("code", TIGHT)
async def test_a_flood_is_turned_away_and_others_are_served(serve, tenants, code):
    live = await serve(core={"max_num_seqs": 2}, keys=tenants.keys(f"[tenants.alice]\n{TIGHT[code]}\n"))
    live.runner.hold()
    flood = [asyncio.create_task(tenants.chat(live, "alice")) for _ in range(FLOOD)]
    refused = [(await task) for task in await first_to_end(flood, FLOOD - 4)]
    assert {response.status for response in refused} == {429}
    assert {(await response.json())["error"]["code"] for response in refused} == {code}
    assert all(int(response.headers["Retry-After"]) >= 1 for response in refused)
    other = asyncio.create_task(tenants.chat(live, "bob"))
    live.runner.release()
    assert (await other).status == 200
    answered = [response.status for response in await asyncio.gather(*flood)]
    samples = await tenants.metrics(live)
    assert samples["limited_total", code, "alice"] == answered.count(429)
    assert samples["generation_tokens_total", "alice"] == 8 * answered.count(200)
    assert samples["generation_tokens_total", "bob"] == 8
    assert samples["open_requests", "alice"] == samples["waiting_requests", "alice"] == 0


async def first_to_end(tasks, count):
    done = set()
    while len(done) < count:
        more, _ = await asyncio.wait(set(tasks) - done, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    return done


async def test_the_time_to_come_back_is_rounded_up(serve, tenants):
    live = await serve(keys=tenants.keys("[tenants.alice]\ntokens_per_minute = 1\n"))
    assert (await tenants.chat(live, "alice")).status == 200
    response = await tenants.chat(live, "alice")
    spent = (await tenants.get(live, "/debug/state"))["tenants"]
    (left,) = (view["tokens_left"] for view in spent if view["tenant"] == "alice")
    assert int(response.headers["Retry-After"]) >= math.floor(60 * -left)


async def test_a_tenant_keeps_no_more_idle_conversations_than_allowed(serve, tenants):
    live = await serve(keys=tenants.keys("[tenants.alice]\nmax_sessions = 2\n"))
    for number in range(4):
        for name in ("alice", "bob"):
            await (await tenants.chat(live, name, f"Conversation {number}")).read()
    idle = [session["tenant"] for session in (await tenants.get(live, "/debug/state"))["core"]["idle_sessions"]]
    assert (idle.count("alice"), idle.count("bob")) == (2, 4)


async def test_all_prompts_of_a_completion_are_charged_to_the_keys_tenant(serve, tenants):
    live = await serve(keys=tenants.keys("[tenants.alice]\ntokens_per_minute = 100000\n"))
    body = {"prompt": [[70] * 10, [71] * 20], "max_tokens": 5, "user": "ann"}
    response = await live.http.post("/v1/completions", json=body, headers=tenants.headers("alice"))
    assert response.status == 200
    metrics = await tenants.metrics(live)
    assert metrics["prompt_tokens_total", "alice"] == 30
    assert metrics["generation_tokens_total", "alice"] == 10


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/completions", {"prompt": "x"}), ("/tokenize", {"prompt": "x"}), ("/detokenize", {"tokens": [70]})],
)
async def test_the_limit_on_open_requests_is_every_routes(serve, tenants, path, body):
    keys = tenants.keys("[tenants.alice]\nmax_requests = 1\n")
    live = await serve(limits={"keep_alive_s": 0.01}, keys=keys)  # so that the stream begins with nothing to say
    live.runner.hold()
    async with await tenants.chat(live, "alice", stream=True):
        response = await live.http.post(path, json=body, headers=tenants.headers("alice"))
    assert (response.status, (await response.json())["error"]["code"]) == (429, "request_limit_exceeded")
