"""Settings: their sources, which source takes precedence, and what is refused."""

import argparse
import re
from ipaddress import ip_network
from pathlib import Path
from typing import get_args

import pytest

from service.cli.wiring import core_settings, limits
from service.config import ENV_PREFIX, ServeSettings, Size, add_serve_flags, is_loopback, parse
from service.errors import ConfigError


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ["CONFIG", *map(str.upper, ServeSettings.model_fields)]:
        monkeypatch.delenv(f"{ENV_PREFIX}{name}", raising=False)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    file = tmp_path / "fastswitch.toml"
    file.write_text("port = 1003\nmax_num_seqs = 3\nmax_num_queued_reqs = 33\n")
    return file


def test_defaults_serve_this_machine_alone() -> None:
    settings = parse([])
    assert (settings.host, settings.port, settings.model) == ("127.0.0.1", 8000, None)
    assert is_loopback(settings.host)


def test_flags_win_over_environment_over_file_over_defaults(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSWITCH_PORT", "1002")
    monkeypatch.setenv("FASTSWITCH_MAX_NUM_SEQS", "2")
    settings = parse(["--config", str(toml), "--port", "1001"])
    assert (settings.port, settings.max_num_seqs) == (1001, 2)
    assert (settings.max_num_queued_reqs, settings.policy) == (33, "vtc")


def test_the_environment_may_name_the_file(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSWITCH_CONFIG", str(toml))
    assert parse([]).port == 1003


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSWITCH_MODEL", "")
    assert parse([]).model is None


@pytest.mark.parametrize(("text", "size"), [("512MiB", 512 << 20), ("1.5GiB", 3 << 29), ("4096", 4096), ("2kb", 2000)])
def test_sizes_take_units(text: str, size: int) -> None:
    assert parse(["--device-kv", text]).device_kv == size


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--port", "x"], "--port: .*valid integer.*'x'"),
        (["--port", "70000"], "--port: .*65535"),
        (["--device-kv", "2q"], "--device-kv: .*q"),
        (["--device-kv", "0"], "--device-kv: .*greater than 0"),
        (["--max-num-seqs", "0"], "--max-num-seqs: "),
        (["--session-ttl", "nan"], "--session-ttl: "),
        (["--queue-timeout", "-1"], "--queue-timeout: .*greater than or equal to 0"),
        (["--max-num-queued-tokens", "0"], "--max-num-queued-tokens: .*greater than or equal to 1"),
        (["--preset", "vllm"], "--preset: .*observe, vllm-0.3.3.*'vllm'"),
        (["--policy", "nice"], "--policy: .*fcfs, markov, priority, random.*'nice'"),
        (["--log-level", "loud"], "--log-level: "),
        (["--device", "gpu"], "--device: .*'gpu'"),
        (["--device", "cuda:"], "--device: .*'cuda:'"),
        (["--dtype", "int8"], "--dtype: .*bfloat16.*'int8'"),
        (["--gpu-memory-utilization", "1.1"], "--gpu-memory-utilization: .*less than or equal to 1"),
        (["--gpu-memory-utilization", "0"], "--gpu-memory-utilization: .*greater than 0"),
        (["--prefix-sharing", "all"], "--prefix-sharing: .*tenant.*'all'"),
        (["--port", "x", "--max-num-queued-reqs", "y"], "--port: .*; --max-num-queued-reqs: "),
    ],
)
def test_a_bad_value_is_one_line_that_names_its_flag(flags: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(flags)
    assert "\n" not in caught.value.message
    assert re.search(complaint, caught.value.message)


@pytest.mark.parametrize(
    ("flags", "expected"), [([], None), (["--queue-timeout", "0"], None), (["--queue-timeout", "3"], 3.0)]
)
def test_no_queue_timeout_is_none_or_zero(flags: list[str], expected: float | None) -> None:
    assert core_settings(parse(flags), 10, 10).queue_timeout_s == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "tenant"),
        (["--enable-prefix-caching", "--prefix-sharing", "user"], "user"),
        (["--no-enable-prefix-caching"], "off"),
        (["--no-enable-prefix-caching", "--prefix-sharing", "user"], "off"),
    ],
)
def test_vllms_flag_turns_sharing_off(flags: list[str], expected: str) -> None:
    assert limits(parse(flags)).prefix_sharing == expected


def test_the_model_is_a_flag_or_a_word_but_not_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSWITCH_MODEL", "from/environment")
    assert parse([]).model == "from/environment"
    assert parse(["--port", "1", "org/name"]).model == parse(["--model", "org/name"]).model == "org/name"
    with pytest.raises(ConfigError, match="given twice: a and --model b"):
        parse(["a", "--model", "b"])


def test_an_unknown_key_in_the_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "typo.toml"
    file.write_text("prot = 1\n")
    with pytest.raises(ConfigError, match="prot: no such setting"):
        parse(["--config", str(file)])


def test_an_unknown_flag_ends_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--prot", "1"])
    assert caught.value.code == 2
    assert "--prot" in capsys.readouterr().err


def test_flags_are_not_abbreviated() -> None:
    with pytest.raises(SystemExit):
        parse(["--por", "1"])


@pytest.mark.parametrize("content", [b"port = = 1", b"\xff"])
def test_a_file_that_is_not_toml_is_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(str(file))) as caught:
        parse(["--config", str(file)])
    assert "\n" not in caught.value.message


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        parse(["--config", str(tmp_path / "none.toml")])


def test_a_reachable_address_needs_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSWITCH_HOST", "0.0.0.0")
    with pytest.raises(ConfigError, match="--allow-anonymous"):
        parse([])
    assert parse(["--allow-anonymous"]).host == "0.0.0.0"


@pytest.mark.parametrize("flags", [["--keys", "keys.toml"], ["--api-keys", "default:" + "k" * 30]])
def test_a_reachable_address_is_fine_with_keys(flags: list[str]) -> None:
    assert parse(["--host", "0.0.0.0", *flags]).host == "0.0.0.0"


def test_a_key_is_shown_in_no_repr_and_no_error(tmp_path: Path) -> None:
    assert "secret" not in repr(parse(["--api-keys", "secret-secret-secret"]))
    file = tmp_path / "fastswitch.toml"
    file.write_text('api_keys = ["secret"]\n')
    with pytest.raises(ConfigError, match="--api-keys") as caught:
        parse(["--config", str(file)])
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("text", ["10.0.0.0/8, ::1", "10.0.0.0/8,::1"])
def test_trusted_proxies_come_from_every_source(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = (ip_network("10.0.0.0/8"), ip_network("::1"))
    file = tmp_path / "fastswitch.toml"
    file.write_text('trusted_proxies = ["10.0.0.0/8", "::1"]\n')
    assert parse([]).trusted_proxies == ()
    assert parse(["--trusted-proxies", text]).trusted_proxies == both
    assert parse(["--config", str(file)]).trusted_proxies == both
    monkeypatch.setenv(f"{ENV_PREFIX}TRUSTED_PROXIES", text)
    assert parse([]).trusted_proxies == both


@pytest.mark.parametrize("text", ["10.0.0.1/8", "proxy.example", "10.0.0.1;10.0.0.2"])
def test_a_proxy_that_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"--trusted-proxies: .*'{re.escape(text)}'"):
        parse(["--trusted-proxies", text])


def test_a_number_is_no_list_of_proxies(tmp_path: Path) -> None:
    file = tmp_path / "fastswitch.toml"
    file.write_text("trusted_proxies = 5\n")
    with pytest.raises(ConfigError, match="--trusted-proxies: should be a list"):
        parse(["--config", str(file)])


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.com", False),
    ],
)
def test_what_counts_as_local(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse([]).port = 1  # type: ignore[misc]


def test_help_names_every_setting_with_its_default() -> None:
    parser = argparse.ArgumentParser()
    add_serve_flags(parser)
    words = " ".join(parser.format_help().split())
    for name, field in ServeSettings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in words
        assert " ".join((field.description or "").split()) in words
        assert f"(default: {field.default})" in words


# What the number of a numeric setting counts; its description opens with one of these or names it.
UNITS = (
    "seconds",
    "bytes",
    "tokens",
    "requests",
    "sequences",
    "blocks",
    "threads",
    "conversations",
    "port",
    "steps",
    "preemptions",
    "seed",
    "share",
)


def numeric_settings() -> list[str]:
    numbers = {int, float, Size}
    fields = ServeSettings.model_fields.items()
    return [name for name, field in fields if numbers & {field.annotation, *get_args(field.annotation)}]


@pytest.mark.parametrize("name", ServeSettings.model_fields)
def test_every_setting_is_described(name: str) -> None:
    assert len(ServeSettings.model_fields[name].description or "") > 20


@pytest.mark.parametrize("name", numeric_settings())
def test_every_number_has_a_unit(name: str) -> None:
    description = (ServeSettings.model_fields[name].description or "").lower()
    assert any(unit in description for unit in UNITS)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_a_device_is_named_as_by_cuda(device: str) -> None:
    assert parse(["--device", device]).device == device


def test_a_step_must_hold_a_token_of_every_running_sequence() -> None:
    with pytest.raises(ConfigError, match="--max-num-batched-tokens 32 must be at least --max-num-seqs 64"):
        parse(["--max-num-batched-tokens", "32"])
