"""The flags of all commands but ``serve``: one for each of the client's settings. The environment is not read."""

import argparse
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from clients.load.settings import LoadSettings
from clients.terminal.chat_settings import ChatSettings
from clients.workload.settings import WorkloadSettings
from service.cli.flag_help import add_readable
from service.config import one_line
from service.errors import ConfigError

_FORM = SettingsConfigDict(
    frozen=True,
    extra="forbid",
    cli_kebab_case=True,
    cli_hide_none_type=True,
    cli_avoid_json=True,
    cli_implicit_flags=True,
)


class _Flags(BaseSettings):
    """Comes before a class of settings among the bases of one that has a flag for each of them."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read flags alone, because ``FASTSWITCH_MODEL`` and its like belong to the server."""
        return (init_settings,)


class ChatFlags(_Flags, ChatSettings):
    """The flags of ``fastswitch chat``."""

    model_config = _FORM


class LoadFlags(_Flags, LoadSettings):
    """The flags of ``fastswitch load``."""

    model_config = _FORM


class WorkloadFlags(_Flags, WorkloadSettings):
    """The flags of ``fastswitch workload``, apart from ``--out``."""

    model_config = _FORM


_F = TypeVar("_F", bound=_Flags)


def add_flags(kind: type[_F], parser: argparse.ArgumentParser) -> CliSettingsSource[_F]:
    """Add one flag for each setting of ``kind`` to ``parser``."""
    return CliSettingsSource(kind, root_parser=parser, add_argument_method=add_readable)


def resolve_flags(kind: type[_F], flags: argparse.Namespace, source: CliSettingsSource[_F]) -> _F:
    """Return the settings from parsed flags. Raises `ConfigError`."""
    try:
        return CliApp.run(kind, cli_args=flags, cli_settings_source=source)
    except ValidationError as error:
        raise ConfigError(one_line(error)) from error
