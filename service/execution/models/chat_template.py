"""A model's chat template: makes a prompt of messages, in the sandboxed Jinja environment of Hugging Face."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from service.errors import InvalidRequestError, ModelLoadError

Message = Mapping[str, Any]

# What template code can raise on messages it does not expect; the sandbox's own errors are TemplateErrors.
_RENDER_ERRORS = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


class ChatTemplate:
    """Renders conversations. It is thread-safe. ``source`` None: the model has no template and cannot chat.

    The sandbox forbids access to attributes that start with an underscore, changes to the messages, and ranges of more
    than 100,000 items. Raises `ModelLoadError` if the source is not a template.
    """

    def __init__(self, source: str | None, bos_token: str = "", eos_token: str = "") -> None:
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        try:
            self._template = None if source is None else _environment().from_string(source)
        except TemplateSyntaxError as error:
            raise ModelLoadError(f"chat template, line {error.lineno}: {error.message}") from error

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the prompt for ``messages``; ``variables`` are others that some templates read, like Qwen3's.

        Raises `InvalidRequestError` if there is no template or it refuses the messages.
        """
        if self._template is None:
            raise InvalidRequestError("this model has no chat template", param="messages")
        known = {**self._tokens, "messages": messages, "add_generation_prompt": add_generation_prompt}
        try:
            return self._template.render({"tools": None, **(variables or {}), **known})
        except _RENDER_ERRORS as error:
            message = f"the chat template refuses these messages: {error or type(error).__name__}"
            raise InvalidRequestError(message, param="messages") from error


class _Generation(Extension):
    """``{% generation %}`` marks answers for training; here only its body counts."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the body's statements."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    extensions = [loopcontrols, _Generation]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON as templates expect it: Jinja's own filter would escape it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
