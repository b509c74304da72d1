"""Matrix products: the fast kernel equals its definition, for sizes that fill whole tiles and others."""

import numpy as np
import pytest

from kernels import cpu, reference

SHAPES = {
    "smollm2-qkv": (576, 960),
    "smollm2-down": (1536, 576),
    "llama-8b-qkv": (4096, 6144),
    "qwen-0.5b-qkv": (896, 1152),
    "leftovers": (37, 53),
    "tiny": (3, 2),
}


def random(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 7, 16, 33])
@pytest.mark.parametrize(("inputs", "outputs"), list(SHAPES.values()), ids=list(SHAPES))
def test_equals_the_reference(inputs: int, outputs: int, tokens: int) -> None:
    rng = np.random.default_rng(tokens)
    x, weight = random(rng, tokens, inputs), random(rng, outputs, inputs)
    expected, got = np.empty((tokens, outputs), np.float32), np.full((tokens, outputs), np.nan, np.float32)
    reference.linear(x, weight, None, expected)
    cpu.linear(x, weight, None, got)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.sqrt(inputs) * 4)


def test_adds_the_bias() -> None:
    rng = np.random.default_rng(0)
    x, weight, bias = random(rng, 5, 64), random(rng, 50, 64), random(rng, 50)
    expected, got = np.empty((5, 50), np.float32), np.empty((5, 50), np.float32)
    reference.linear(x, weight, bias, expected)
    cpu.linear(x, weight, bias, got)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_a_token_alone_and_in_any_company_is_the_same_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    x, weight = random(rng, 300, 1000), random(rng, 101, 1000)
    together, alone = np.empty((300, 101), np.float32), np.empty((1, 101), np.float32)
    cpu.linear(x, weight, None, together)
    for token in (0, 1, 127, 131, 297, 299):
        cpu.linear(x[token : token + 1], weight, None, alone)
        np.testing.assert_array_equal(alone[0], together[token])


def test_one_tokens_nan_stays_its_own() -> None:
    rng = np.random.default_rng(0)
    x, weight = random(rng, 6, 64), random(rng, 48, 64)
    x[2] = np.nan
    out = np.empty((6, 48), np.float32)
    cpu.linear(x, weight, None, out)
    assert np.isnan(out[2]).all()
    assert np.isfinite(np.delete(out, 2, axis=0)).all()


def test_reads_weights_that_may_not_be_written() -> None:
    weight = np.eye(8, dtype=np.float32)
    weight.flags.writeable = False
    x, out = np.arange(8, dtype=np.float32)[None], np.empty((1, 8), np.float32)
    cpu.linear(x, weight, None, out)
    np.testing.assert_array_equal(out, x)
