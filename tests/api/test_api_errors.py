"""The table of errors is whole, and its answers are OpenAI's."""

import json

import pytest

from service import errors
from service.api.errors import STATUS_AND_TYPE, error_body, error_response, from_refusal, status_of
from service.core.messages.events import Refused


def all_request_errors(root: type = errors.RequestError) -> list[type[errors.RequestError]]:
    return [kind for child in root.__subclasses__() for kind in (child, *all_request_errors(child))]


@pytest.mark.parametrize("kind", all_request_errors())
def test_every_error_has_a_status_and_a_type(kind):
    error = kind("why")
    assert 400 <= status_of(error) < 600
    assert error_body(error, "r")["error"]["type"].endswith("error")


@pytest.mark.parametrize("kind", all_request_errors())
def test_a_code_leads_back_to_its_error(kind):
    error = from_refusal(Refused("a", kind.code, "why", 7.5))
    assert type(error) is kind
    assert error.message == "why"
    assert getattr(error, "retry_after_s", 7.5) == 7.5


def test_the_table_has_nothing_else():
    assert set(STATUS_AND_TYPE) == {kind.code for kind in all_request_errors()}


def test_the_tree_in_the_docstring_is_this_tree():
    lines = (errors.__doc__ or "").splitlines()
    for kind in all_request_errors():
        (line,) = [line for line in lines if f" {kind.__name__} " in line]
        assert f" {kind.code} " in line
        assert str(status_of(kind("why"))) in line or "the stream is aborted" in line


def test_busy_answers_say_when_to_come_back():
    response = error_response(errors.OverloadedError("full", retry_after_s=2.6), "r")
    assert (response.status, response.headers["Retry-After"]) == (429, "3")
    assert "Retry-After" not in error_response(errors.InternalError("x"), "r").headers


def test_the_body_names_the_field_and_the_request():
    error = json.loads(error_response(errors.InvalidRequestError("why", param="n"), "r-1").text)["error"]
    assert error == {
        "message": "why",
        "type": "invalid_request_error",
        "param": "n",
        "code": "invalid_request_error",
        "request_id": "r-1",
    }
