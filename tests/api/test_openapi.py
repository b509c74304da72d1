"""The served OpenAPI document: complete, and true of what the routes answer."""

import re

import pytest
from pydantic import TypeAdapter

from service.api.errors import STATUS_AND_TYPE
from service.api.openai import responses
from service.api.page.route import FILES
from service.api.routes import OPERATIONS


@pytest.fixture
async def document(live):
    response = await live.http.get("/openapi.json")
    assert response.status == 200
    return await response.json()


def codes_of(response) -> set[str]:
    (media,) = response["content"].values()
    return set(media["schema"]["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"])


async def test_every_route_is_described_and_no_other(live, document):
    served = {(route.method, route.resource.canonical) for route in live.app.router.routes() if route.method != "HEAD"}
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    page = {("GET", path) for path in FILES}  # for people
    assert described == served - page - {("GET", "/v1/chat/stream")}  # OpenAPI has no words for a WebSocket


async def test_every_reference_leads_somewhere(document):
    text = str(document)
    schemas = document["components"]["schemas"]
    assert set(re.findall(r"#/components/schemas/(\w+)", text)) <= set(schemas)
    assert "$defs" not in text


async def test_errors_stand_under_their_status(document):
    for methods in document["paths"].values():
        for operation in methods.values():
            errors = {status: each for status, each in operation["responses"].items() if status not in ("200", "503")}
            for status, response in errors.items():
                assert {STATUS_AND_TYPE[code][0] for code in codes_of(response)} == {int(status)}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_routes_that_generate_name_all_that_can_go_wrong(document, path):
    answers = document["paths"][path]["post"]["responses"]
    codes = {code for status in answers if status != "200" for code in codes_of(answers[status])}
    others = {"not_found", "method_not_allowed", "slow_reader", "permission_denied"}
    of_the_chat_stream = {"session_lost", "session_busy", "session_taken_over", "session_limit_exceeded"}
    assert codes == STATUS_AND_TYPE.keys() - others - of_the_chat_stream


OPEN = {"/health", "/ready"}


@pytest.mark.parametrize(("guarded", "security"), [(False, [{}, {"key": []}]), (True, [{"key": []}])])
async def test_it_says_which_routes_take_a_key_and_whether_they_need_it(serve, tenants, guarded, security):
    live = await serve(keys=tenants.keys() if guarded else None)
    headers = tenants.headers("bob") if guarded else {}
    document = await (await live.http.get("/openapi.json", headers=headers)).json()
    scheme = document["components"]["securitySchemes"]["key"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation.get("security") == (None if path in OPEN else security), path


async def test_fields_are_those_of_the_bodies(document):
    for operation in OPERATIONS:
        if operation.body is not None:
            schema = document["components"]["schemas"][operation.body.__name__]
            assert schema["properties"].keys() == operation.body.model_fields.keys()


@pytest.mark.parametrize(("path", "chunk"), [("chat", responses.ChatChunk), ("completions", responses.TextChunk)])
async def test_events_of_a_stream_are_of_the_described_type(talkative, path, chunk):
    live = await talkative()
    options = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    if path == "chat":
        response = await live.chat(**options, n=2, logprobs=True, top_logprobs=3)
    else:
        response = await live.complete(**options, n=2, logprobs=3)
    adapter = TypeAdapter(chunk)  # it drops what it does not know
    events = await live.events(response)
    assert events.pop() == "[DONE]"
    assert [adapter.validate_python(event, strict=True) for event in events] == events


async def test_an_error_event_is_of_the_described_type(broken):
    live = await broken()
    body = await (await live.chat()).json()
    assert TypeAdapter(responses.ErrorBody).validate_python(body, strict=True) == body
