"""The flags of ``fastswitch chat``, one for each of the terminal client's settings."""

import argparse

from pydantic_settings import CliSettingsSource

from clients.terminal.chat_settings import ChatSettings
from service.cli.flags import FORM, Flags, resolve_flags


class _ChatFlags(Flags, ChatSettings):
    model_config = FORM


def add_chat_flags(parser: argparse.ArgumentParser) -> CliSettingsSource[_ChatFlags]:
    """Add one flag for each setting to ``parser``."""
    return CliSettingsSource(_ChatFlags, root_parser=parser)


def resolve_chat(flags: argparse.Namespace, source: CliSettingsSource[_ChatFlags]) -> ChatSettings:
    """Return the settings from parsed flags. Raises `ConfigError`."""
    return resolve_flags(_ChatFlags, flags, source)
