"""Which sites' pages may use the server."""

from pathlib import Path

import pytest

from service.api.access.origins import check_origin
from service.cli.wiring import limits
from service.config import ServeSettings, parse
from service.errors import ConfigError, ForeignOriginError


@pytest.mark.parametrize(
    ("origin", "host", "only_local"),
    [
        (None, "127.0.0.1:8000", True),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("http://localhost:8000", "LOCALHOST:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("https://chat.example.com", "chat.example.com", False),
    ],
)
def test_own_pages_and_programs_may(origin: str | None, host: str, only_local: bool) -> None:
    check_origin(origin, host, only_local)


@pytest.mark.parametrize(
    ("origin", "host", "only_local"),
    [
        ("https://evil.example", "127.0.0.1:8000", True),
        ("http://127.0.0.1:3000", "127.0.0.1:8000", True),
        ("null", "127.0.0.1:8000", True),
        ("", "127.0.0.1:8000", True),
        ("file://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("https://evil.example", "chat.example.com", False),
        ("http://[", "127.0.0.1:8000", True),
    ],
)
def test_pages_of_others_may_not(origin: str, host: str, only_local: bool) -> None:
    with pytest.raises(ForeignOriginError):
        check_origin(origin, host, only_local)


@pytest.mark.parametrize(
    ("settings", "only_local"),
    [({}, True), ({"keys": Path("keys.toml")}, False), ({"host": "0.0.0.0", "allow_anonymous": True}, False)],
)
def test_a_proxy_s_name_is_known_where_keys_keep_others_out(settings: dict[str, object], only_local: bool) -> None:
    assert limits(ServeSettings(**settings)).only_local is only_local


def test_a_name_bent_to_this_machine_is_foreign() -> None:
    with pytest.raises(ForeignOriginError):
        check_origin("http://evil.example:8000", "evil.example:8000", only_local=True)


SITE = "http://localhost:3000"


@pytest.mark.parametrize(
    "allowed", [SITE, "https://a.example, HTTP://LOCALHOST:3000/", '["http://localhost:3000"]', "*"]
)
async def test_an_allowed_page_asks_first_and_reads_the_answer(serve, tenants, allowed):
    origins = limits(parse(["--allowed-origins", allowed])).allowed_origins
    live = await serve(limits={"allowed_origins": origins}, keys=tenants.keys())
    asks = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
    answer = await live.http.options("/v1/chat/completions", headers=asks)
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, SITE)
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    for key, status in ({}, 401), (tenants.headers("alice"), 200):
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "stream": True}
        answer = await live.http.post("/v1/chat/completions", json=body, headers={"Origin": SITE, **key})
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (status, SITE)
        assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"]
        assert answer.headers["Vary"] == "Origin"


async def test_other_pages_are_refused_and_programs_see_no_difference(serve):
    live = await serve(limits={"allowed_origins": frozenset({SITE})})
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in await live.http.options("/v1/models", headers=asks), await live.http.get("/v1/models", headers=asks):
        assert answer.status == 403
        assert "Access-Control-Allow-Origin" not in answer.headers
    answer = await live.http.get("/v1/models")
    assert answer.status == 200
    assert not {"Access-Control-Allow-Origin", "Vary"} & set(answer.headers)


@pytest.mark.parametrize("bad", ["localhost:3000", "https://a.example/page", "ftp://a.example"])
def test_what_is_no_origin_is_one_line(bad):
    with pytest.raises(ConfigError, match="is no origin"):
        parse(["--allowed-origins", bad])
