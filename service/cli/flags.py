"""Settings from flags alone: what all commands but ``serve`` have in common. The environment is not read."""

import argparse
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from service.config import one_line
from service.errors import ConfigError

_S = TypeVar("_S", bound="Flags")

FORM = SettingsConfigDict(
    frozen=True,
    extra="forbid",
    cli_kebab_case=True,
    cli_hide_none_type=True,
    cli_avoid_json=True,
    cli_implicit_flags=True,
)


class Flags(BaseSettings):
    """Comes before a class of settings among the bases of one that has a flag for each of them, and `FORM`."""

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


def resolve_flags(kind: type[_S], flags: argparse.Namespace, source: CliSettingsSource[Any]) -> _S:
    """Settings from parsed flags. Raises `ConfigError`."""
    try:
        return CliApp.run(kind, cli_args=flags, cli_settings_source=source)
    except ValidationError as error:
        raise ConfigError(one_line(error)) from error
