"""A tokenizer built from GGUF metadata: byte-level BPE (``gpt2``) and SentencePiece BPE (``llama``)."""

from dataclasses import dataclass

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from service.errors import ModelLoadError
from service.execution.models.gguf_file import GgufFile
from service.execution.models.tokenizer import Tokenizer

_CONTROL, _USER_DEFINED = 3, 4  # token types; the others need no treatment

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class _Splitting:
    """How text is split into words before merging; ``pattern`` None is GPT-2's, with single ``digits`` if so."""

    pattern: str | None = None
    digits: bool = False
    ignore_merges: bool = False  # a word that is a token is not merged from parts
    compose: bool = False  # NFC first
    adds_bos: bool = False  # unless the file says otherwise

    def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        if self.pattern is None:
            first = [pre_tokenizers.Digits(individual_digits=True)] if self.digits else []
            return pre_tokenizers.Sequence([*first, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(self.pattern), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )


_GPT2 = _Splitting()
_SMOLLM = _Splitting(digits=True)
_LLAMA_BPE = _Splitting(_LLAMA3, ignore_merges=True, adds_bos=True)

# By ``tokenizer.ggml.pre``, the names that llama.cpp's converter writes.
_SPLITTINGS = {
    "default": _GPT2,
    "gpt-2": _GPT2,
    "gpt2": _GPT2,
    "smollm": _SMOLLM,
    "starcoder": _SMOLLM,
    "refact": _SMOLLM,
    "llama-bpe": _LLAMA_BPE,
    "llama3": _LLAMA_BPE,
    "llama-v3": _LLAMA_BPE,
    "qwen2": _Splitting(_QWEN2, compose=True),
    "deepseek-r1-qwen": _Splitting(_QWEN2, compose=True),
    "tekken": _Splitting(_TEKKEN, ignore_merges=True, adds_bos=True),
}


def gguf_tokenizer(file: GgufFile) -> Tokenizer:
    """Return the tokenizer that the file's metadata describes. Raises `ModelLoadError` for an unknown kind."""
    kind = file.require("tokenizer.ggml.model", str)
    tokens = file.require("tokenizer.ggml.tokens", list)
    if kind == "gpt2":
        backend, adds_bos = _byte_level(file, tokens)
    elif kind == "llama":
        backend, adds_bos = _sentencepiece(file, tokens), True
    else:
        raise ModelLoadError(f"tokenizer of the kind {kind!r} is not supported, only 'gpt2' and 'llama'")
    _add_tokens(backend, file, tokens)
    _add_bos(backend, file, tokens, adds_bos)
    return Tokenizer(backend)


def _byte_level(file: GgufFile, tokens: list[str]) -> tuple[Backend, bool]:
    name = file.require("tokenizer.ggml.pre", str)
    splitting = _SPLITTINGS.get(name)
    if splitting is None:
        raise ModelLoadError(f"pre-tokenizer {name!r} is not supported, only {', '.join(_SPLITTINGS)}")
    merges = [tuple(merge.split(" ")) for merge in file.require("tokenizer.ggml.merges", list)]
    backend = Backend(_bpe(tokens, merges, ignore_merges=splitting.ignore_merges))
    if splitting.compose:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = splitting.pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    return backend, splitting.adds_bos


def _sentencepiece(file: GgufFile, tokens: list[str]) -> Backend:
    """Return SentencePiece's BPE, which merges the pair with the best score: a merge list by falling score."""
    scores = file.require("tokenizer.ggml.scores", list)
    if len(scores) != len(tokens):
        raise ModelLoadError(f"{file.path}: {len(tokens)} tokens but {len(scores)} scores")
    unknown = tokens[_token_id(file, "unknown", tokens) or 0]
    backend = Backend(
        _bpe(tokens, _merges_by_score(tokens, scores), byte_fallback=True, fuse_unk=True, unk_token=unknown)
    )
    prefix = file.get("tokenizer.ggml.add_space_prefix", bool) is not False
    marks = [normalizers.Prepend("▁")] if prefix else []
    backend.normalizer = normalizers.Sequence([*marks, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return backend


def _merges_by_score(tokens: list[str], scores: list[float]) -> list[tuple[str, str]]:
    ids = {token: index for index, token in enumerate(tokens)}
    merges = []
    for token, score in zip(tokens, scores, strict=True):
        splits = [(token[:middle], token[middle:]) for middle in range(1, len(token))]
        known = [(left, right) for left, right in splits if left in ids and right in ids]
        merges += [(-score, ids[left], ids[right], left, right) for left, right in known]
    return [(left, right) for _, _, _, left, right in sorted(merges)]


def _bpe(tokens: list[str], merges: list[tuple[str, str]], **options: object) -> models.BPE:
    try:
        return models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges, **options)
    except Exception as error:  # the package raises the bare class
        raise ModelLoadError(f"tokenizer: {error}") from error


def _add_tokens(backend: Backend, file: GgufFile, tokens: list[str]) -> None:
    types = file.require("tokenizer.ggml.token_type", list)
    if len(types) != len(tokens):
        raise ModelLoadError(f"{file.path}: {len(tokens)} tokens but {len(types)} token types")
    by_type = {
        kind: [AddedToken(token, normalized=False) for token, its in zip(tokens, types, strict=True) if its == kind]
        for kind in (_CONTROL, _USER_DEFINED)
    }
    backend.add_special_tokens(by_type[_CONTROL])
    backend.add_tokens(by_type[_USER_DEFINED])


def _add_bos(backend: Backend, file: GgufFile, tokens: list[str], by_default: bool) -> None:
    wanted = file.get("tokenizer.ggml.add_bos_token", bool)
    bos = _token_id(file, "bos", tokens)
    if bos is not None and (by_default if wanted is None else wanted):
        backend.post_processor = processors.TemplateProcessing(
            single=[tokens[bos], "$A"], special_tokens=[(tokens[bos], bos)]
        )


def _token_id(file: GgufFile, role: str, tokens: list[str]) -> int | None:
    """Return the id in ``tokenizer.ggml.<role>_token_id``. Raises if the vocabulary does not have it."""
    token_id = file.get(f"tokenizer.ggml.{role}_token_id", int)
    if token_id is not None and token_id >= len(tokens):
        raise ModelLoadError(f"{file.path}: the {role} token {token_id} is not in the vocabulary")
    return token_id
