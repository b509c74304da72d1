"""Settings from flags alone, as all commands but ``serve`` have them. The environment is not read."""

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
    """Base of a class with a flag for each setting; comes before the class of settings, and goes with `FORM`."""

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


def resolve_flags(kind: type[_S], flags: argparse.Namespace, source: CliSettingsSource[Any]) -> _S:
    """Return the settings from parsed flags. Raises `ConfigError`."""
    try:
        return CliApp.run(kind, cli_args=flags, cli_settings_source=source)
    except ValidationError as error:
        raise ConfigError(one_line(error)) from error
