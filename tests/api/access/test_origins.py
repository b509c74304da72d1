"""Which sites' pages may use the server."""

from pathlib import Path

import pytest

from service.api.access.origins import check_origin
from service.cli.wiring import limits
from service.config import ServeSettings
from service.errors import ForeignOriginError


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
