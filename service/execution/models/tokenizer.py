"""Text to tokens and back, over the package `tokenizers`.

The package encodes. Decoding is by bytes: every token stands for a fixed byte string, so text can be released token by
token without ever showing half a character, and joins to the same text as decoding all at once.
"""

import codecs
import functools
import json
import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer as Backend

from service.errors import InvalidRequestError, ModelLoadError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


@functools.cache
def byte_alphabet() -> dict[str, int]:
    """Return GPT-2's printable stand-ins for the 256 bytes: character -> byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


class Tokenizer:
    """A model's tokenizer. It is thread-safe; the package releases the GIL while it encodes.

    ``strips_space``: the tokenizer adds the first space of a text, which is not shown.
    Raises `ModelLoadError` if the tokens are neither byte-level nor SentencePiece's.
    """

    def __init__(self, backend: Backend) -> None:
        backend.no_truncation()  # settings of a training run, left in tokenizer.json, must not truncate or pad a prompt
        backend.no_padding()
        self._backend = backend
        kinds = set(re.findall(r'"type":"(\w+)"', json.dumps(_decoder(backend), separators=(",", ":"))))
        if not kinds & {"ByteLevel", "ByteFallback", "Metaspace"}:
            raise ModelLoadError(f"tokenizer: decoder of the kind {sorted(kinds) or None} is not supported")
        self._byte_level = "ByteLevel" in kinds
        self.strips_space = bool(kinds & {"Strip", "Metaspace"})
        added = backend.get_added_tokens_decoder()
        self._added = {token_id: token.content for token_id, token in added.items()}
        self._special = frozenset(token_id for token_id, token in added.items() if token.special)
        self._bytes: dict[int, bytes] = {}

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included; the model's own vocabulary may be padded to more."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``; special tokens written in it are recognised, none is added.

        Raises `InvalidRequestError` for a lone surrogate, which is no text.
        """
        return self._encode(text, add_special_tokens=False)

    def encode_prompt(self, text: str) -> list[int]:
        """Return token ids like `encode`, with the special tokens that the model wants around a bare prompt."""
        return self._encode(text, add_special_tokens=True)

    def _encode(self, text: str, add_special_tokens: bool) -> list[int]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequestError(f"text holds a lone surrogate at character {error.start}") from error
        return self._backend.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, token_ids: Iterable[int], skip_special: bool = True) -> str:
        """Return the text of ``token_ids``; bytes that are not UTF-8 become U+FFFD."""
        decoder = self.decoder(skip_special)
        return "".join(map(decoder.push, token_ids)) + decoder.flush()

    def decoder(self, skip_special: bool = True) -> "IncrementalDecoder":
        """Return a decoder for one answer."""
        return IncrementalDecoder(self, skip_special)

    def is_special(self, token_id: int) -> bool:
        """Return whether the token is a control token, such as an end of turn."""
        return token_id in self._special

    def token_id(self, text: str) -> int | None:
        """Return the id of the token that is written ``text``, if there is one."""
        return self._backend.token_to_id(text)

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that a token stands for; none for an id that the vocabulary does not have."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._decode_token(token_id)
        return known

    def token_text(self, token_id: int) -> str:
        """Return `token_bytes` as text, each byte that is not UTF-8 as U+FFFD."""
        return self.token_bytes(token_id).decode(errors="replace")

    def _decode_token(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode()
        token = self._backend.id_to_token(token_id) or ""
        if self._byte_level:
            return _from_byte_alphabet(token)
        byte = _BYTE_TOKEN.fullmatch(token)
        return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


def _from_byte_alphabet(token: str) -> bytes:
    """Return a token's bytes; a token outside the alphabet stands for itself, as in the package."""
    alphabet = byte_alphabet()
    if not all(character in alphabet for character in token):
        return token.encode()
    return bytes(alphabet[character] for character in token)


class IncrementalDecoder:
    """Makes text of tokens, one by one in order, whole characters only."""

    __slots__ = ("_skip_special", "_strip", "_tokenizer", "_utf8")

    def __init__(self, tokenizer: Tokenizer, skip_special: bool) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._strip = tokenizer.strips_space
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    @property
    def pending(self) -> bool:
        """Whether bytes of an unfinished character are held."""
        return bool(self._utf8.getstate()[0])

    def push(self, token_id: int) -> str:
        """Return the text that this token completes, often none."""
        if self._skip_special and self._tokenizer.is_special(token_id):
            return ""
        return self._stripped(self._utf8.decode(self._tokenizer.token_bytes(token_id)))

    def flush(self) -> str:
        """Return the rest at the end of the text: U+FFFD for an unfinished character."""
        return self._stripped(self._utf8.decode(b"", final=True))

    def _stripped(self, text: str) -> str:
        if self._strip and text:
            self._strip = False
            return text.removeprefix(" ")
        return text


def read_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer in a ``tokenizer.json``. Raises `ModelLoadError`."""
    if not path.is_file():
        raise ModelLoadError(f"{path}: missing")
    try:
        return Tokenizer(Backend.from_file(str(path)))
    except ModelLoadError:
        raise
    except Exception as error:  # the package raises the bare class
        raise ModelLoadError(f"{path}: not a tokenizer: {error}") from error


def _decoder(backend: Backend) -> object:
    return None if backend.decoder is None else json.loads(backend.decoder.__getstate__())
