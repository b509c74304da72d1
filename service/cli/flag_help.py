"""How ``--help`` shows flags: those of ``serve`` in groups, with units for types, and defaults where there is one."""

import argparse
import re
from collections.abc import Callable
from typing import Any

AddArgument = Callable[..., argparse.Action]

GROUPS = {
    "model": (
        "model",
        "served_model_name",
        "max_model_len",
        "generation_config",
        "default_max_tokens",
        "repetition_detection",
    ),
    "address and keys": (
        "host",
        "port",
        "metrics_port",
        "keys",
        "api_keys",
        "allow_anonymous",
        "trusted_proxies",
        "allowed_origins",
        "max_body",
    ),
    "device and memory": (
        "device",
        "threads",
        "cpu_features",
        "dtype",
        "kv_cache_dtype",
        "device_kv",
        "host_kv",
        "gpu_memory_utilization",
    ),
    "who is served, and when": (
        "policy",
        "max_num_seqs",
        "max_num_batched_tokens",
        "max_num_queued_reqs",
        "max_num_queued_tokens",
        "queue_timeout",
        "blocked_timeout",
        "min_quantum",
        "promote_after",
        "fairness_hysteresis",
        "priority_ageing",
        "priority_update_every",
        "priority_seed",
    ),
    "conversations": (
        "prefix_sharing",
        "enable_prefix_caching",
        "warm_prompt",
        "max_sessions",
        "session_ttl",
        "max_chat_sessions",
        "reconnect_grace",
        "reconnect_buffer",
    ),
    "connections": ("keep_alive", "ping_interval", "write_timeout", "drain_timeout", "hang_timeout"),
    "logs": ("log_level", "log_format", "record_trace"),
    "context switches and experiments": ("preset", "block_group_size", "emulate_link", "debug_preempt_every"),
}

UNITS = ("seconds", "tokens", "blocks", "steps", "sequences", "requests", "threads")

_NUMBERS = ("int", "float")
_KINDS = {"Path": "FILE", "Size": "SIZE", "SecretStr": "SECRET"}
_FIRST_UNIT = re.compile(rf"\b({'|'.join(UNITS)})\b", re.IGNORECASE)
_DEFAULT = re.compile(r" \(default(?: factory)?: ([^)]*\)?)\)$")
_NO_DEFAULT = ("None", "()")
_WORDS = {"True": "on", "False": "off"}


def in_groups(parser: argparse.ArgumentParser) -> AddArgument:
    """Return what adds the flags of `ServeSettings` to groups of ``parser``."""
    groups = {}
    for title, settings in GROUPS.items():
        groups.update(dict.fromkeys(settings, parser.add_argument_group(title)))

    def add(_: argparse.ArgumentParser, *flags: str, **options: Any) -> argparse.Action:
        return add_readable(groups.get(options["dest"], parser), *flags, **options)

    return add


def add_readable(
    parser: argparse._ActionsContainer, *flags: str, help: str, metavar: str | None = None, **options: Any
) -> argparse.Action:
    """Add a flag as pydantic describes it, but for people: ``--port PORT``, not ``--port int``."""
    if metavar is not None:
        options["metavar"] = _metavar(options["dest"], metavar, help)
    return parser.add_argument(*flags, help=_with_default(help), **options)


def _metavar(setting: str, kind: str, description: str) -> str:
    last_word = setting.rpartition("_")[2].upper()
    if kind in _NUMBERS:
        unit = _FIRST_UNIT.search(description)
        return last_word if last_word == "PORT" else "N" if unit is None else unit[1].upper()
    if "[" in kind:
        return "FILES" if "Path" in kind else last_word
    choices = kind.startswith("{") or (kind.islower() and kind != "str")
    return kind if choices else _KINDS.get(kind, last_word)


def _with_default(description: str) -> str:
    found = _DEFAULT.search(description)
    if found is None:
        return description
    text, default = description[: found.start()], found[1]
    if "default factory" in found[0] or default in _NO_DEFAULT:
        return text
    return f"{text} (default: {_WORDS.get(default, default.removesuffix('.0'))})"
