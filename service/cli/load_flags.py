"""The flags of ``fastswitch load`` and ``fastswitch workload``: one for each setting. The environment is not read."""

import argparse
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from clients.load.settings import LoadSettings
from clients.workload.settings import WorkloadSettings
from service.config import one_line
from service.errors import ConfigError

_S = TypeVar("_S", bound=BaseSettings)


_FORM = SettingsConfigDict(
    frozen=True,
    extra="forbid",
    cli_kebab_case=True,
    cli_hide_none_type=True,
    cli_avoid_json=True,
    cli_implicit_flags=True,
)


class _Flags(BaseSettings):
    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags alone: ``FASTSWITCH_MODEL`` and its like are the server's."""
        return (init_settings,)


class _LoadFlags(_Flags, LoadSettings):
    model_config = _FORM


class _WorkloadFlags(_Flags, WorkloadSettings):
    model_config = _FORM


def add_load_flags(parser: argparse.ArgumentParser) -> CliSettingsSource[Any]:
    """Give ``parser`` one flag a setting."""
    return CliSettingsSource(_LoadFlags, root_parser=parser)


def add_workload_flags(parser: argparse.ArgumentParser) -> CliSettingsSource[Any]:
    """Give ``parser`` one flag a setting, and ``--out``."""
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="trace file to write")
    return CliSettingsSource(_WorkloadFlags, root_parser=parser)


def resolve_load(flags: argparse.Namespace, source: CliSettingsSource[Any]) -> LoadSettings:
    """Settings from parsed flags. Raises `ConfigError`."""
    return _resolve(_LoadFlags, flags, source)


def resolve_workload(flags: argparse.Namespace, source: CliSettingsSource[Any]) -> WorkloadSettings:
    """Settings from parsed flags. Raises `ConfigError`."""
    return _resolve(_WorkloadFlags, flags, source)


def _resolve(kind: type[_S], flags: argparse.Namespace, source: CliSettingsSource[Any]) -> _S:
    try:
        return CliApp.run(kind, cli_args=flags, cli_settings_source=source)
    except ValidationError as error:
        raise ConfigError(one_line(error)) from error
