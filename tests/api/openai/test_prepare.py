"""Bodies become turns."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.access.caller import Caller
from service.api.access.sharing import Sharing
from service.api.access.tenants import ANONYMOUS
from service.api.context import Defaults, ServedModel
from service.api.openai.prepare import prepare_chat
from service.api.openai.schemas import checked_defaults
from service.api.openai.turns import answer_limit
from service.config import PrefixSharing
from service.core.messages.sampling import RepetitionDetection
from service.errors import ContextLengthError, InvalidRequestError, ModelNotFoundError, NeverFitsError
from service.execution.serving_device import ServingDevice

CPU = ServingDevice("cpu", "simulated", "float32")


class Letters:
    """A tokenizer with a token for each character."""

    def encode(self, text: str) -> list[int]:
        return [ord(character) % 100 for character in text]

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])


class Joined:
    """A template that joins what is said."""

    def render(self, messages: list, add_generation_prompt: bool, variables: dict) -> str:
        said = "".join(f"{message['role'][0]}:{message['content']};" for message in messages)
        return said + "".join(f"{name}={value};" for name, value in variables.items())


@pytest.fixture
def model() -> ServedModel:
    return make_model()


def make_model(max_model_len: int = 100, capacity_tokens: int = 1000, **more) -> ServedModel:
    return ServedModel("m", max_model_len, capacity_tokens, 256, frozenset({9}), Letters(), Joined(), 4, 0, CPU, **more)


def prepared(served: ServedModel, sharing: PrefixSharing = "tenant", **fields):
    body = {"messages": [{"role": "user", "content": "Hi"}], **fields}
    caller = Caller(ANONYMOUS, "address:192.0.2.1", "req", Sharing(sharing, b"secret"))
    return prepare_chat(json.dumps(body).encode(), served, "id", caller)


def test_the_template_and_the_tokenizer_make_the_prompt(model):
    (turn,) = prepared(model).turns
    assert turn.submit.prompt == tuple(Letters().encode("u:Hi;"))


def test_the_developer_is_the_system(model):
    (turn,) = prepared(model, messages=[{"role": "developer", "content": "x"}]).turns
    assert turn.submit.prompt == tuple(Letters().encode("s:x;"))


def test_the_template_gets_what_it_reads_beside_messages(model):
    (turn,) = prepared(model, chat_template_kwargs={"enable_thinking": False}).turns
    assert turn.submit.prompt == tuple(Letters().encode("u:Hi;enable_thinking=False;"))


def test_defaults_are_openais(model):
    submit = prepared(model).turns[0].submit
    sampling = submit.sampling_params
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.logprobs) == (1.0, 1.0, 0, None)
    assert (submit.max_tokens, submit.priority, submit.stop_tokens) == (95, 0, {9})


def test_what_a_request_leaves_out_is_as_the_models_authors_want_it():
    served = make_model(defaults=Defaults(sampling=checked_defaults({"temperature": 0.5, "top_k": 20, "top_p": 0.75})))
    sampling = prepared(served, temperature=1, top_p=None).turns[0].submit.sampling_params
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (1.0, 20, 0.75, 0.0)


GUARD = RepetitionDetection(max_pattern_size=64, min_pattern_size=8, min_count=3)


def test_a_limit_that_is_left_out_is_the_servers_as_far_as_the_context_reaches():
    served = make_model(defaults=Defaults(max_tokens=50))
    assert prepared(served).turns[0].submit.max_tokens == 50
    assert prepared(served, max_tokens=60).turns[0].submit.max_tokens == 60
    assert prepared(make_model(defaults=Defaults(max_tokens=5000))).turns[0].submit.max_tokens == 95


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, GUARD),
        ({"repetition_detection": None}, GUARD),
        ({"repetition_detection": {}}, None),
        ({"ignore_eos": True}, None),
        ({"repetition_detection": {"max_pattern_size": 9, "min_count": 2}}, RepetitionDetection(9, 1, 2)),
    ],
)
def test_an_answer_that_repeats_itself_ends_as_the_request_says_or_the_server(fields, expected):
    served = make_model(defaults=Defaults(repetition_detection=GUARD))
    assert prepared(served, **fields).turns[0].submit.repetition == expected


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"max_pattern_size": 257, "min_count": 2}, "less than or equal to 256"),
        ({"max_pattern_size": 9, "min_count": 1}, "min_count must be at least 2, got 1"),
        ({"max_pattern_size": 9, "min_count": 2, "min_pattern_size": 10}, "10 must be at most max_pattern_size 9"),
    ],
)
def test_a_repetition_that_cannot_be_found_is_refused(model, fields, problem):
    with pytest.raises(InvalidRequestError, match=problem):
        prepared(model, repetition_detection=fields)


@pytest.mark.parametrize("wanted", [{"temperature": 3}, {"top_p": 0}, {"top_k": 1.5}, {"repetition_penalty": "1"}])
def test_defaults_that_no_request_could_ask_for_are_refused(wanted):
    with pytest.raises(InvalidRequestError, match=next(iter(wanted))):
        checked_defaults(wanted)


def test_settings_reach_the_turn(model):
    turn = prepared(
        model, max_completion_tokens=7, temperature=0.5, top_k=-1, min_p=0.25, presence_penalty=1, seed=-1,
        frequency_penalty=-1, repetition_penalty=1.25, logit_bias={"3": -5}, stop="x", stop_token_ids=[4], priority=-2,
        logprobs=True, top_logprobs=2,
    ).turns[0]  # fmt: skip
    submit, sampling = turn.submit, turn.submit.sampling_params
    assert turn.stop == ("x",)
    assert (submit.max_tokens, submit.priority, submit.stop_tokens) == (7, -2, {4, 9})
    assert (sampling.temperature, sampling.top_k, sampling.min_p) == (0.5, 0, 0.25)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty) == (1, -1, 1.25)
    assert (sampling.logit_bias, sampling.logprobs) == ({3: -5.0}, 2)
    assert 0 <= sampling.seed < 2**63


def test_more_candidates_than_tokens_are_all_tokens(model):
    assert prepared(model, top_k=2**70).turns[0].submit.sampling_params.top_k == model.vocab_size


def test_the_new_name_of_the_limit_wins(model):
    assert prepared(model, max_tokens=5, max_completion_tokens=6).turns[0].submit.max_tokens == 6


def test_logprobs_without_alternatives_are_none_of_them(model):
    assert prepared(model, logprobs=True).turns[0].submit.sampling_params.logprobs == 0


def test_ignoring_the_end_keeps_the_callers_own_stop_tokens(model):
    assert prepared(model, ignore_eos=True, stop_token_ids=[4]).turns[0].submit.stop_tokens == {4}


def test_choices_have_ids_and_seeds_of_their_own_and_the_scope_of_a_single_one(model):
    turns = prepared(model, n=3, seed=2**62, user="ann").turns
    assert [turn.submit.request_id for turn in turns] == ["id-0", "id-1", "id-2"]
    assert [turn.submit.sampling_params.seed - 2**62 for turn in turns] == [0, 1, 2]
    assert {turn.submit.scope for turn in turns} == {prepared(model).turns[0].submit.scope}


def test_without_a_seed_each_request_draws_its_own(model):
    seeds = {prepared(model).turns[0].submit.sampling_params.seed for _ in range(8)}
    assert len(seeds) == 8


def scope(model, **fields):
    return prepared(model, **fields).turns[0].submit.scope


def test_a_user_has_a_scope_of_its_own_only_where_users_share_nothing(model):
    assert scope(model, user="ann") == scope(model, user="bob") == scope(model)
    of_users = [scope(model, sharing="user", user=user) for user in (None, "", "ann", "bob")]
    assert of_users[0] == of_users[1]
    assert len(set(of_users)) == 3
    assert scope(model, sharing="off", user="ann", cache_salt="s") is None


def test_a_salt_narrows_a_scope_and_cannot_be_read_in_it(model):
    salted = [scope(model, cache_salt=salt) for salt in (None, "canary", "canary", "other")]
    assert salted[1] == salted[2]
    assert len(set(salted)) == 3
    assert "canary" not in str(salted)
    assert scope(model, sharing="user", user="ann", cache_salt="s") != scope(model, sharing="user", cache_salt="s")


@pytest.mark.parametrize("impostor", [{"user": "canary"}, {"user": "", "cache_salt": "x"}])
def test_no_user_and_no_salt_is_taken_for_the_other(model, impostor):
    assert scope(model, sharing="user", **impostor) != scope(model, sharing="user", cache_salt="canary")


@pytest.mark.parametrize("salt", ["", 5, []])
def test_a_salt_that_is_none_is_refused_in_vllms_words(model, salt):
    with pytest.raises(InvalidRequestError, match="'cache_salt' must be a non-empty string if provided") as caught:
        prepared(model, cache_salt=salt)
    assert caught.value.param == "cache_salt"


def test_another_model_is_not_found(model):
    with pytest.raises(ModelNotFoundError, match="'m'"):
        prepared(model, model="other")


def test_the_report_of_logprobs_is_bounded():
    model = make_model(max_model_len=100_000, capacity_tokens=10**7)
    prepared(model, logprobs=True, top_logprobs=20, max_tokens=1000, n=8)
    with pytest.raises(InvalidRequestError, match="log-probabilities") as caught:
        prepared(model, logprobs=True, top_logprobs=20, max_tokens=50_000, n=8)
    assert caught.value.param == "top_logprobs"


def test_the_error_counts_prompt_and_answer(model):
    with pytest.raises(ContextLengthError, match=r"length is 100 tokens.*105 tokens \(5 in the messages, 100 in"):
        prepared(model, max_tokens=100)


@given(
    prompt=st.integers(1, 300),
    asked=st.none() | st.integers(1, 300),
    length=st.integers(2, 300),
    room=st.integers(16, 300),
)
def test_an_answer_gets_what_it_asked_for_or_all_there_is(prompt, asked, length, room):
    model = make_model(length, room)
    least = prompt + (asked or 1)
    if least > length:
        with pytest.raises(ContextLengthError):
            answer_limit(prompt, asked, model, "messages")
    elif least > room:
        with pytest.raises(NeverFitsError):
            answer_limit(prompt, asked, model, "messages")
    else:
        limit = answer_limit(prompt, asked, model, "messages")
        assert limit == asked or (asked is None and prompt + limit == min(length, room))
