"""What ``--help`` shows."""

import argparse
from itertools import chain

import pytest

from service.cli.flag_help import GROUPS, in_groups
from service.cli.flags import ChatFlags, LoadFlags, WorkloadFlags, add_flags
from service.config import ServeSettings, add_serve_flags, resolve


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    monkeypatch.setenv("COLUMNS", "10000")  # a line a flag
    parser = argparse.ArgumentParser(usage="", formatter_class=lambda prog: argparse.HelpFormatter(prog, 10, 60))
    add_serve_flags(parser, in_groups(parser))
    return parser


def line_of(parser: argparse.ArgumentParser, flag: str) -> str:
    """The line of a flag, its blanks joined."""
    (line,) = (line for line in parser.format_help().splitlines() if line.strip().startswith(f"{flag} "))
    return " ".join(line.split())


def test_every_setting_stands_in_one_group() -> None:
    assert sorted(chain.from_iterable(GROUPS.values())) == sorted(ServeSettings.model_fields)


def test_groups_follow_each_other(parser: argparse.ArgumentParser) -> None:
    text = parser.format_help()
    places = [text.index(f"\n{title}:\n") for title in GROUPS]
    assert places == sorted(places)
    assert places[0] < text.index("--model MODEL") < places[1] < text.index("--port PORT") < places[2]


@pytest.mark.parametrize(
    ("flag", "begin", "end"),
    [
        ("--port", "--port PORT TCP port", "(default: 8000)"),
        ("--session-ttl", "--session-ttl SECONDS Seconds that", "its history (default: 600)"),
        ("--gpu-memory-utilization", "--gpu-memory-utilization N Share", "(default: 0.9)"),
        ("--max-body", "--max-body SIZE Bytes", "(default: 4 MiB)"),
        ("--keys", "--keys FILE TOML", "at the next request"),
        ("--api-keys", "--api-keys SECRET API keys", "can see them"),
        ("--trusted-proxies", "--trusted-proxies PROXIES Addresses", "client's address is charged"),
        ("--warm-prompt", "--warm-prompt FILES Files", "blocks are needed"),
        ("--log-format", "--log-format {auto,text,json} Form", "(default: auto)"),
        ("--emulate-link", "--emulate-link pcie4 Makes", "for experiments"),
        ("--allow-anonymous,", "--allow-anonymous, --no-allow-anonymous Allow", "(default: off)"),
    ],
)
def test_a_flag_shows_its_unit_and_its_default(
    parser: argparse.ArgumentParser, flag: str, begin: str, end: str
) -> None:
    line = line_of(parser, flag)
    assert line.startswith(begin)
    assert line.endswith(end)


@pytest.mark.parametrize("kind", [ChatFlags, LoadFlags, WorkloadFlags])
def test_no_command_shows_types_of_python(kind: type) -> None:
    parser = argparse.ArgumentParser()
    add_flags(kind, parser)
    words = parser.format_help().replace("[", " ").replace("]", " ").split()
    assert not {"str", "int", "float", "Path", "SecretStr", "None)", "list"} & set(words)


def test_flags_in_groups_are_read_like_others(parser: argparse.ArgumentParser) -> None:
    plain = argparse.ArgumentParser()
    source = add_serve_flags(plain)
    words = ["org/name", "--port", "1", "--allow-anonymous", "--device-kv", "1MiB"]
    grouped = argparse.ArgumentParser()
    grouped_source = add_serve_flags(grouped, in_groups(grouped))
    read = resolve(grouped.parse_args(words), grouped_source)
    assert read.model_dump() == resolve(plain.parse_args(words), source).model_dump()
    assert (read.model, read.port, read.allow_anonymous) == ("org/name", 1, True)
