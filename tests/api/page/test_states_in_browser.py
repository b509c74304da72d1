"""The pane of all sessions, and who may see it, in Chromium."""

import pytest

from service.api.access.key_ring import new_key
from service.api.context import STREAMS
from service.core.messages.events import Served
from service.engine import Output

pytestmark = pytest.mark.browser


def states(tab) -> list[str]:
    return tab.texts("#live .state")


def test_what_runs_waits_and_rests_is_shown(page, browse, stepped):
    tab = browse(page(stepped, core={"max_num_seqs": 1}).url)
    tab.say("Hello", max_tokens=4)
    stepped.allow(10)
    tab.whole_answer()
    tab.until(lambda: states(tab) == ["idle"])
    first, second = browse(tab.front().current_url), browse(tab.front().current_url)
    first.say("One", max_tokens=10_000)
    first.until(lambda: states(first) == ["running", "idle"])
    second.say("Two", max_tokens=10_000)
    second.until(lambda: states(second) == ["running", "waiting", "idle"])
    stepped.allow(3)  # until a plan has seen both
    second.shows("#live [data-state=waiting]", "the batch is full")
    second.shows("#totals", "1 running · 1 waiting · 1 idle")
    second.shows("#pools", "device KV")


def test_what_sessions_share_is_told_in_a_line(page, browse):
    tab = browse(page().url)
    assert tab.texts("#prefixes") == [""]
    question = "Please say something nice about the weather and about nothing else "
    for chat, end in (tab, "today"), (browse(tab.front().current_url), "tomorrow"):
        chat.say(question + end, max_tokens=4)
        chat.whole_answer()
    chat.shows("#prefixes", "Shared: one prefix; ")
    chat.shows("#live", "tokens shared")


def served(server, **services: float) -> None:
    server.call(server.app[STREAMS]._deliver, [Output(Served(tuple(services.items())))])


@pytest.mark.parametrize("phone", [False, True])
def test_the_tenants_shares_are_bars_that_keep_their_places(page, browse, phone):
    server = page()
    tab = browse(server.url, phone=phone)
    if phone:
        tab.click("[data-show=sessions]")
    tab.shows("#totals", "no sessions")
    assert not tab.find("#shares").is_displayed()
    served(server, ann=100.0, bob=300.0)
    tab.until(lambda: tab.texts("#shares .share") == ["25 %", "75 %"])
    assert tab.texts("#shares .name") == ["ann", "bob"]
    served(server, ann=400.0)
    tab.until(lambda: tab.texts("#shares .share") == ["63 %", "38 %"])
    assert tab.find("#shares").is_displayed()
    assert tab.texts("#shares h3") == ["Shares of the last 5 minutes, by tenant"]
    ann, bob = tab.run("[...document.querySelectorAll('#shares .used')].map((part) => part.offsetWidth)")
    assert ann / bob == pytest.approx(500 / 300, rel=0.1)
    assert tab.run("document.documentElement.scrollWidth") <= tab.run("innerWidth")


def test_many_tenants_leave_room_for_the_sessions_and_names_stay_text(page, browse):
    server = page()
    tab = browse(server.url)
    served(server, **{f"<b>{number:02}</b>{'long' * 20}": 100.0 - number for number in range(30)})
    tab.shows("#shares .rest", "and 24 more")
    assert tab.texts("#shares .name")[0].startswith("<b>00</b>long")
    assert tab.run("document.querySelector('#shares').offsetHeight") < 300


def test_a_turn_that_waits_shows_its_place_until_it_starts(page, browse, stepped):
    server = page(stepped, core={"max_num_seqs": 1})
    first, second = browse(server.url), browse(server.url)
    first.say("One", max_tokens=100)
    stepped.allow(1)
    first.until(lambda: states(first) == ["running"])
    second.say("Two", max_tokens=100, seed=1)
    second.until(lambda: len(states(second)) == 2)
    stepped.allow(1)
    second.shows("#notice", "Waiting, 1st in the queue (the batch is full).")
    stepped.allow(99)  # one token of the second
    second.until(lambda: second.find("#notice").text == "")
    stepped.allow()
    assert second.whole_answer()


def test_a_preempted_request_says_so_in_both_panes_and_so_does_its_return(page, browse, stepped):
    server = page(stepped, core={"max_num_seqs": 1}, policy="priority")
    late, urgent = browse(server.url), browse(server.url)
    late.say("One", max_tokens=40, seed=1, priority=5)
    stepped.allow(10)
    late.reads(5)
    late.until(lambda: states(late) == ["running"])
    urgent.say("Two", max_tokens=30, seed=1, priority=0)
    urgent.until(lambda: len(states(urgent)) == 2)
    stepped.allow(10)
    late.shows("#notice", "Paused: others are served first (the batch is full)")
    late.until(lambda: "preempted" in states(late))
    stepped.allow()
    late.whole_answer()
    late.shows(".figures", "preempted once")
    late.shows("#totals", "preemptions seen: 1")


def test_a_wrong_key_is_named_and_a_tenants_opens_the_chat_alone(page, browse, tenants):
    tab = browse(page(keys=tenants.keys()).url)
    tab.shows("#alert", "needs an API key")
    tab.find("#key-input").send_keys(new_key())
    tab.click("#key button")
    tab.shows("#alert", "the API key is unknown")
    tab.find("#key-input").send_keys(tenants.key["alice"])
    tab.click("#key button")
    tab.until(lambda: not tab.find("#key").is_displayed())
    tab.say("Hello", max_tokens=20, seed=1)
    assert tab.whole_answer()
    tab.shows("#sessions-notice", "needs the key of a tenant with admin = true")
    assert states(tab) == tab.texts("#shares li") == []


def test_an_admins_key_opens_both_panes_and_stays_for_a_reload(page, browse, tenants):
    tab = browse(page(keys=tenants.keys()).url)
    tab.shows("#alert", "needs an API key")
    tab.find("#key-input").send_keys(tenants.key["ops"])
    tab.click("#key button")
    tab.say("Hello", max_tokens=20, seed=1)
    tab.whole_answer()
    tab.until(lambda: states(tab) == ["idle"])
    tab.front().refresh()
    tab.until(lambda: states(tab) == ["idle"])
    assert not tab.find("#key").is_displayed()


def test_a_key_that_was_withdrawn_is_asked_for_again_and_the_turn_goes_on_with_the_new_one(page, browse, tenants):
    tab = browse(page(keys=tenants.keys()).url)
    tab.shows("#alert", "needs an API key")
    tab.find("#key-input").send_keys(tenants.key["bob"])
    tab.click("#key button")
    tab.until(lambda: not tab.find("#key").is_displayed())
    tab.say("Hello", max_tokens=20, seed=1)
    tab.whole_answer()
    tenants.write(names=["alice"])
    tab.say("And?")
    tab.shows("#alert", "The key is not good any more")
    tab.find("#key-input").send_keys(tenants.key["alice"])
    tab.click("#key button")
    tab.until(lambda: len(tab.texts(".figures")) == 2)
