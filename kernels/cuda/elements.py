"""Element types: they load 16 bytes as float32 numbers, and store these. All arithmetic is in float32."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-any-generics

from collections.abc import Callable
from dataclasses import dataclass

from kernels.cuda import words
from kernels.cuda.kernel import device
from kernels.cuda.words import float_of, store_16, word_of


@dataclass(frozen=True)
class Elements:
    """An element type. width: elements in 16 bytes. The functions take memory, vector, and a local array [width].

    load_constant is for memory that the kernel does not write.
    """

    name: str
    width: int
    load: Callable
    load_constant: Callable
    store: Callable


def _float32_loader(load_words):
    @device
    def load(memory, vector, values):
        a, b, c, d = load_words(memory, vector)
        values[0], values[1], values[2], values[3] = float_of(a), float_of(b), float_of(c), float_of(d)

    return load


@device
def _store_float32(memory, vector, values):
    store_16(memory, vector, word_of(values[0]), word_of(values[1]), word_of(values[2]), word_of(values[3]))


def _half_loader(load_words, low, high):
    @device
    def load(memory, vector, values):
        a, b, c, d = load_words(memory, vector)
        values[0], values[1], values[2], values[3] = low(a), high(a), low(b), high(b)
        values[4], values[5], values[6], values[7] = low(c), high(c), low(d), high(d)

    return load


def _half_storer(pack):
    @device
    def store(memory, vector, values):
        a, b = pack(values[0], values[1]), pack(values[2], values[3])
        c, d = pack(values[4], values[5]), pack(values[6], values[7])
        store_16(memory, vector, a, b, c, d)

    return store


def _half(name, low, high, pack):
    load, constant = _half_loader(words.load_16, low, high), _half_loader(words.load_16_constant, low, high)
    return Elements(name, 8, load, constant, _half_storer(pack))


FLOAT32 = Elements(
    "float32", 4, _float32_loader(words.load_16), _float32_loader(words.load_16_constant), _store_float32
)
FLOAT16 = _half("float16", words.f16_low, words.f16_high, words.pack_f16)
BFLOAT16 = _half("bfloat16", words.bf16_low, words.bf16_high, words.pack_bf16)

BY_NAME = {elements.name: elements for elements in (FLOAT32, FLOAT16, BFLOAT16)}
