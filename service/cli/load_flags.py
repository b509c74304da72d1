"""The flags of ``fastswitch load`` and ``fastswitch workload``, one for each setting."""

import argparse
from pathlib import Path
from typing import Any

from pydantic_settings import CliSettingsSource

from clients.load.settings import LoadSettings
from clients.workload.settings import WorkloadSettings
from service.cli.flags import FORM, Flags, resolve_flags


class _LoadFlags(Flags, LoadSettings):
    model_config = FORM


class _WorkloadFlags(Flags, WorkloadSettings):
    model_config = FORM


def add_load_flags(parser: argparse.ArgumentParser) -> CliSettingsSource[Any]:
    """Add one flag for each setting to ``parser``."""
    return CliSettingsSource(_LoadFlags, root_parser=parser)


def add_workload_flags(parser: argparse.ArgumentParser) -> CliSettingsSource[Any]:
    """Add one flag for each setting, and ``--out``, to ``parser``."""
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="trace file to write")
    return CliSettingsSource(_WorkloadFlags, root_parser=parser)


def resolve_load(flags: argparse.Namespace, source: CliSettingsSource[Any]) -> LoadSettings:
    """Return the settings from parsed flags. Raises `ConfigError`."""
    return resolve_flags(_LoadFlags, flags, source)


def resolve_workload(flags: argparse.Namespace, source: CliSettingsSource[Any]) -> WorkloadSettings:
    """Return the settings from parsed flags. Raises `ConfigError`."""
    return resolve_flags(_WorkloadFlags, flags, source)
