"""The flags of ``fastswitch chat``: one for each of the terminal client's settings. The environment is not read."""

import argparse

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from clients.chat_settings import ChatSettings
from service.config import one_line
from service.errors import ConfigError


class _ChatFlags(BaseSettings, ChatSettings):
    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", cli_kebab_case=True, cli_hide_none_type=True, cli_avoid_json=True
    )

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


def add_chat_flags(parser: argparse.ArgumentParser) -> CliSettingsSource[_ChatFlags]:
    """Give ``parser`` one flag a setting."""
    return CliSettingsSource(_ChatFlags, root_parser=parser)


def resolve_chat(flags: argparse.Namespace, source: CliSettingsSource[_ChatFlags]) -> ChatSettings:
    """Settings from parsed flags. Raises `ConfigError`."""
    try:
        return CliApp.run(_ChatFlags, cli_args=flags, cli_settings_source=source)
    except ValidationError as error:
        raise ConfigError(one_line(error)) from error
