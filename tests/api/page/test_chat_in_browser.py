"""The chat on the page, in Chromium: answers stream, nothing is lost, and no text becomes markup."""

import pytest

from service.api.context import DOOR
from service.api.websocket.sessions import SESSIONS
from service.core.messages.plan import Drawn, StepPlan, StepResult
from service.core.messages.ports import DirectRunner

pytestmark = pytest.mark.browser

LONG = {"max_tokens": 60, "seed": 7}
EVIL = "<img src=x onerror=\"document.title='stolen'\"><script>document.title='stolen'</script>"


class Reciting(DirectRunner):
    """A data plane whose every answer is a text."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self._said: dict[int, int] = {}

    def run(self, plan: StepPlan) -> StepResult:
        self._said.update({opening.slot: 0 for opening in plan.opened})
        return StepResult(plan.number, [self._next(row.slot) for row in plan.rows if row.draws_token], 0.0)

    def _next(self, slot: int) -> Drawn:
        said = self._said[slot]
        self._said[slot] += 1
        return Drawn(slot, self._tokens[said % len(self._tokens)])


def undisturbed(server, browse) -> str:
    tab = browse(server.url)
    tab.say("Tell me a story", **LONG)
    return tab.whole_answer()


def test_an_answer_streams_and_its_figures_follow(page, browse, stepped):
    server = page(stepped)
    tab = browse(server.url)
    tab.shows("#model", "tiny")
    tab.say("Tell me a story", **LONG)
    stepped.allow(20)
    tab.reads(20)
    assert tab.texts(".user .text") == ["Tell me a story"]
    begun = tab.answer()
    stepped.allow()
    assert tab.whole_answer().startswith(begun)
    assert begun
    tab.shows(".assistant .figures", "60 tokens · 0 reused")
    assert [entry for entry in tab.driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_a_second_turn_goes_on_with_the_session(page, browse):
    tab = browse(page().url)
    for question in ("Hello", "And?"):
        tab.say(question, max_tokens=20, seed=1)
        tab.whole_answer()
    assert tab.live["turns"] == 2
    assert "· 0 reused" in tab.texts(".figures")[0]
    assert "· 0 reused" not in tab.texts(".figures")[1]


def test_a_page_reloaded_in_mid_turn_receives_exactly_the_missing_tokens(page, browse, stepped):
    server = page(stepped)
    tab = browse(server.url)
    tab.say("Tell me a story", **LONG)
    stepped.allow(20)
    tab.reads(20)
    begun = tab.answer()
    tab.front().refresh()
    assert tab.answer() == begun
    stepped.allow()
    whole = tab.whole_answer()
    assert len(server.app[SESSIONS]._by_id) == tab.live["turns"] == 1  # the turn went on, no other was asked for
    assert 0 < len(begun) < len(whole)
    assert whole == undisturbed(server, browse)


def test_a_page_reloaded_before_the_first_token_waits_for_the_same_turn(page, browse, stepped):
    server = page(stepped)
    tab = browse(server.url)
    tab.say("Tell me a story", **LONG)
    tab.until(lambda: any(session.turn for session in server.app[SESSIONS]._by_id.values()))
    tab.front().refresh()
    tab.until(lambda: len(server.app[SESSIONS]._connections) == 1)
    stepped.allow()
    assert tab.whole_answer() == undisturbed(server, browse)
    assert tab.live["turns"] == 1


def test_a_turn_that_never_left_is_sent_after_a_reload(page, browse):
    server = page()
    tab = browse(server.url)
    tab.say("Hello", max_tokens=20, seed=1)
    tab.whole_answer()
    tab.run("(WebSocket.prototype.send = () => {})")
    tab.say("And?")
    tab.front().refresh()
    tab.until(lambda: len(tab.texts(".figures")) == 2)
    (session,) = server.app[SESSIONS]._by_id.values()
    assert [message["content"] for message in session.question] == ["And?"]


def test_what_came_while_the_page_was_away_is_there_when_it_is_back(page, browse, stepped):
    server = page(stepped)
    tab = browse(server.url)
    tab.say("Tell me a story", **LONG)
    stepped.allow(20)
    tab.reads(20)
    tab.front().get("about:blank")
    stepped.allow()
    (session,) = server.app[SESSIONS]._by_id.values()
    tab.until(lambda: session.end is not None)
    tab.front().get(server.url)
    assert tab.whole_answer() == undisturbed(server, browse)


def test_a_complete_conversation_survives_a_reload(page, browse):
    tab = browse(page().url)
    tab.say("Hello", max_tokens=20, seed=1)
    whole, figures = tab.whole_answer(), tab.texts(".figures")
    tab.front().refresh()
    assert (tab.texts(".user .text"), tab.answer(), tab.texts(".figures")) == (["Hello"], whole, figures)
    tab.say("And?")
    tab.until(lambda: len(tab.texts(".figures")) == 2)
    assert tab.live["turns"] == 2


def test_a_broken_connection_is_mended_unseen(page, browse, stepped):
    server = page(stepped)
    tab = browse(server.url)
    tab.say("Tell me a story", **LONG)
    stepped.allow(20)
    tab.reads(20)
    server.app[DOOR].closed = True  # until it was seen
    for connection in list(server.app[SESSIONS]._connections):
        server.call(connection._transport.abort)
    tab.shows("#notice", "Trying again")
    server.app[DOOR].closed = False
    stepped.allow()
    assert tab.whole_answer() == undisturbed(server, browse)


def test_a_session_that_the_server_lost_is_begun_anew_with_the_history(page, browse):
    server = page()
    tab = browse(server.url)
    tab.say("Hello", max_tokens=20, seed=1)
    first = tab.whole_answer()
    (lost,) = server.app[SESSIONS]._by_id.values()
    for connection in list(server.app[SESSIONS]._connections):
        server.call(connection._transport.abort)
    server.call(server.app[SESSIONS].remove, lost)
    tab.say("And?")
    tab.until(lambda: len(tab.texts(".figures")) == 2)
    (session,) = server.app[SESSIONS]._by_id.values()
    assert session.history == [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": first}]


def test_stop_ends_the_answer_at_what_is_there_and_the_next_turn_works(page, browse, stepped):
    server = page(stepped)
    tab = browse(server.url)
    tab.say("Tell me a story", max_tokens=10_000, seed=7)
    stepped.allow(20)
    tab.reads(20)
    begun = tab.answer()
    tab.click("#stop")
    stepped.allow()
    assert tab.whole_answer() == begun
    assert tab.texts(".why") == ["Stopped."]
    tab.say("And?", max_tokens=20)
    tab.until(lambda: len(tab.texts(".figures")) == 2)
    (session,) = server.app[SESSIONS]._by_id.values()
    assert session.history[1]["content"] == begun


def test_what_crosses_the_stop_is_not_part_of_the_answer(page, browse, stepped):
    server = page(stepped)
    tab = browse(server.url)
    tab.say("Tell me a story", **LONG)
    stepped.allow(20)
    tab.reads(20)
    begun = tab.answer()
    tab.run("(WebSocket.prototype.send = () => {})")  # the cancel is under way for very long
    tab.click("#stop")
    stepped.allow()
    assert tab.whole_answer() == begun
    tab.shows(".figures", "60 tokens")


def test_two_tabs_have_a_conversation_each(page, browse):
    server = page()
    tabs = [browse(server.url), browse(server.url)]
    for tab, word in zip(tabs, ("One", "Two"), strict=True):
        tab.say(word, max_tokens=20, seed=3)
    answers = [tab.whole_answer() for tab in tabs]
    assert answers[0] != answers[1]
    assert [tab.texts(".user .text") for tab in tabs] == [["One"], ["Two"]]
    assert len(server.app[SESSIONS]._by_id) == 2


def test_a_new_chat_forgets_the_old_one_here_and_there(page, browse):
    server = page()
    tab = browse(server.url)
    tab.say("Hello", max_tokens=20, seed=1)
    tab.whole_answer()
    tab.click("#new")
    assert tab.texts("article") == []
    tab.until(lambda: not server.app[SESSIONS]._by_id)
    tab.front().refresh()
    assert tab.texts("article") == []


def test_what_user_and_model_write_stays_text(page, browse, tokenizer):
    tokens = tokenizer.encode(EVIL)
    tab = browse(page(Reciting(tokens)).url)
    tab.say(EVIL, max_tokens=len(tokens))
    assert tab.whole_answer() == tab.texts(".user .text")[0] == EVIL
    tab.front().refresh()
    tab.until(lambda: tab.texts(".assistant .text") == [EVIL])
    assert tab.run("document.querySelectorAll('article :is(img, script)').length") == 0
    assert tab.run("document.title") == "FastSwitch"


def test_shift_enter_begins_a_line_and_enter_sends(page, browse):
    tab = browse(page().url)
    tab.choose(max_tokens=4)
    tab.run("document.querySelector('#input').focus()")
    tab.find("#input").send_keys("one", "\ue008\ue007\ue008", "two", "\ue007")
    tab.until(lambda: tab.texts(".user .text") == ["one\ntwo"])


def test_a_refused_turn_says_why_and_can_be_mended(page, browse):
    tab = browse(page().url)
    tab.say("Hello", temperature=9)
    tab.shows("#notice", "less than or equal to 2")
    assert tab.texts("article") == []
    assert tab.run("document.querySelector('#input').value") == "Hello"
    tab.say("!", temperature=1, max_tokens=4)
    tab.whole_answer()
    assert tab.texts(".user .text") == ["Hello!"]


def test_an_error_that_ends_a_turn_is_shown(page, browse):
    tab = browse(page(model={"max_model_len": 64}).url)
    tab.say("word " * 100)
    tab.shows("#notice", "maximum context length is 64 tokens")
    tab.until(lambda: tab.texts("article") == [])


def test_a_phone_shows_all_of_it_without_scrolling_sideways(page, browse):
    tab = browse(page().url, phone=True)
    tab.say("A_very_long_word_without_any_space_in_it_" * 10, max_tokens=20, seed=1)
    tab.whole_answer()
    for pane in ("sessions", "chat"):
        tab.click(f"[data-show={pane}]")
        assert tab.find(f"#{pane}").is_displayed()
        assert tab.run("document.documentElement.scrollWidth") == 390
    assert not tab.find("#sessions").is_displayed()
    box = tab.run("document.querySelector('#input').getBoundingClientRect().toJSON()")
    assert 0 < box["left"] < box["right"] < 390
    assert 0 < box["top"] < box["bottom"] < 844
