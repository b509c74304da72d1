"""The key file: what it says, that it holds no key, that a change takes effect and a mistake does not."""

import os
import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.api.access.key_ring import KeyRing, digest, new_key, parse_inline, parse_ring
from service.api.access.keys import Keys
from service.errors import ConfigError

OLD_KEY, NEW_KEY = new_key(), new_key()


def entry(tenant: str, key: str) -> str:
    return f'[[keys]]\ntenant = "{tenant}"\nsha256 = "{digest(key)}"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.write_text(entry("search", OLD_KEY))
    return path


def age(file: Path) -> None:
    """Make the file look as if it had been written long ago."""
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns - 10**12))


def name_of(found) -> str | None:
    return None if found is None else found.name


def test_a_tenant_has_what_its_table_says_and_defaults_otherwise():
    ring = parse_ring("[tenants.a]\nweight = 2.5\nadmin = true\nmax_requests = 3\n" + entry("a", OLD_KEY))
    tenant = ring.find(OLD_KEY)
    assert (tenant.weight, tenant.admin, tenant.max_requests) == (2.5, True, 3)
    assert (tenant.best_priority, tenant.max_queue, tenant.tokens_per_minute) == (0, None, None)


def test_a_tenant_may_have_several_keys_and_no_table():
    ring = parse_ring(entry("a", OLD_KEY) + entry("a", NEW_KEY))
    assert ring.find(OLD_KEY) == ring.find(NEW_KEY)
    assert ring.find(new_key()) is None


def test_entries_can_be_appended_after_anything():
    ring = parse_ring(entry("a", OLD_KEY) + "[tenants.b]\nweight = 3.0\n" + entry("b", NEW_KEY))
    assert (ring.find(OLD_KEY).name, ring.find(NEW_KEY).weight) == ("a", 3.0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[keys]", "line 1"),
        ("[[keys]]\ntenant = 'a'", "keys.0.sha256"),
        ("[[keys]]\ntenant = 'a'\nsha256 = 'fsk-clear'", "keys.0.sha256"),
        ("[[keys]]\ntenant = 'a b'\nsha256 = '" + "0" * 64 + "'", "keys.0.tenant"),
        ("[tenants.a]\nwieght = 2.0", "wieght"),
        ("[tenants.a]\nweight = 0", "weight"),
        ("[tenants.a]\nweight = 1e9", "weight"),
        ("[tenants.a]\nbackground = 1", "background"),
        ("[tenants.a]\nmax_requests = '3'", "max_requests"),
        ("[[key]]\n", "key"),
        (entry("a", OLD_KEY) + entry("b", OLD_KEY), "more than once"),
    ],
)
def test_a_mistake_is_reported_without_the_value(text, complaint):
    with pytest.raises(ConfigError, match=complaint) as caught:
        parse_ring(text)
    assert "fsk-" not in caught.value.message


def test_keys_of_the_environment_name_their_tenant_or_are_the_defaults():
    pairs = parse_inline(f"search:{OLD_KEY}, {NEW_KEY}\n")
    ring = parse_ring("[tenants.search]\nweight = 4.0\n", pairs)
    assert (ring.find(OLD_KEY).weight, ring.find(NEW_KEY).name) == (4.0, "default")


@pytest.mark.parametrize("text", ["short", "a b:fsk-x", "a/b:" + "k" * 30])
def test_a_bad_key_of_the_environment_is_reported_without_quoting_it(text):
    with pytest.raises(ConfigError, match=r"key [12]") as caught:
        parse_inline(text)
    assert not re.search("short|kkk|fsk", caught.value.message)


def test_neither_the_ring_nor_the_file_holds_a_key(file):
    keys = Keys(file, f"env:{NEW_KEY}")
    assert isinstance(keys._ring, KeyRing)
    for text in (file.read_text(), repr(vars(keys))):
        assert OLD_KEY not in text
        assert NEW_KEY not in text


def test_new_keys_are_long_and_fit_for_headers_and_subprotocols():
    assert re.fullmatch(r"fsk-[A-Za-z0-9_-]{43}", new_key())
    assert new_key() != new_key()


def test_without_file_and_keys_no_key_is_needed():
    assert not Keys().required


def test_an_empty_file_lets_no_client_in(tmp_path):
    file = tmp_path / "keys.toml"
    file.touch()
    keys = Keys(file)
    assert keys.required
    assert keys.find(OLD_KEY) is None


def test_a_changed_file_adds_and_removes_keys(file):
    keys = Keys(file)
    file.write_text(entry("other", NEW_KEY))
    assert keys.find(OLD_KEY) is None
    assert name_of(keys.find(NEW_KEY)) == "other"


def test_a_replaced_file_counts_though_it_is_as_old_and_as_long(file):
    age(file)
    keys = Keys(file)
    assert keys.find(OLD_KEY)
    fresh = file.with_suffix(".new")
    fresh.write_text(entry("search", NEW_KEY))
    os.utime(fresh, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    fresh.rename(file)
    assert name_of(keys.find(NEW_KEY)) == "search"


def test_a_change_within_one_tick_of_the_clock_counts(file, monkeypatch):
    monkeypatch.setattr("service.api.access.keys.SETTLED_NS", 1 << 60)  # however long a tick is
    keys = Keys(file)
    assert keys.find(OLD_KEY)
    before = file.stat()
    file.write_text(entry("search", NEW_KEY))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert keys.find(NEW_KEY)


def test_an_unchanged_file_is_not_read_again(file, monkeypatch):
    age(file)
    keys = Keys(file)
    monkeypatch.setattr(Path, "read_text", None)
    assert keys.find(OLD_KEY)


@pytest.mark.parametrize("broken", [b"[[keys]", b"\xff", b'[[keys]]\ntenant = "x"\n'])
def test_a_broken_file_keeps_the_last_keys_and_is_logged_once(file, broken):
    keys = Keys(file)
    file.write_bytes(broken)
    with capture_logs() as logs:
        assert name_of(keys.find(OLD_KEY)) == "search"
        assert keys.find(NEW_KEY) is None
    assert [entry["event"] for entry in logs] == ["keys_not_reloaded"]


def test_a_removed_file_keeps_the_last_keys(file):
    keys = Keys(file)
    file.unlink()
    assert keys.find(OLD_KEY)


def test_a_file_that_goes_a_second_time_is_logged_a_second_time(file):
    keys = Keys(file)
    away = file.with_suffix(".away")
    with capture_logs() as logs:
        for _ in range(2):
            file.rename(away)
            assert keys.find(OLD_KEY)
            assert keys.find(OLD_KEY)
            away.rename(file)
            assert keys.find(OLD_KEY)
    assert [entry["event"] for entry in logs] == ["keys_not_reloaded"] * 2


def test_a_mended_file_counts_again(file):
    keys = Keys(file)
    file.write_text("[[keys]")
    assert keys.find(OLD_KEY)
    file.write_text(entry("b", NEW_KEY))
    assert name_of(keys.find(NEW_KEY)) == "b"


@pytest.mark.parametrize("content", [None, "[[keys]"])
def test_at_the_start_a_bad_file_is_an_error(tmp_path, content):
    file = tmp_path / "keys.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=re.escape(f"--keys {file}: ")) as caught:
        Keys(file)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("inline", ["", " ", ",", ", ,"])
def test_a_setting_without_a_key_is_refused(inline: str) -> None:
    with pytest.raises(ConfigError, match="holds no key"):
        Keys(inline=inline)
