"""Checks of paged attention at a model's sizes: decodes and prompts, over scattered blocks between blocks of NaN."""

from collections.abc import Iterator
from functools import partial
from math import sqrt

import numpy as np

from allocator import BLOCK_TOKENS
from benchmarks.gpu.checks.check import Check
from benchmarks.gpu.checks.comparing import Case, check_case, normal, unwritten
from benchmarks.gpu.under_test import GPUUnderTest
from service.execution.gpu.runtime import Stream
from service.execution.memory import Kernels
from service.execution.models.architecture import ModelConfig

SCRATCH_FLOATS = 4 << 20
LAYERS = 2
PREFIXES = (0, 17)
LONGEST_PROMPT = 256  # tokens; the reference takes a second or so for it
CHUNK = 33  # the last one of a longer prompt
SLACK = 4  # on tensor cores, attention weights are rounded to the type before they are multiplied with the values

Rows = list[tuple[int, int]]  # query tokens, and the sequence's length including them


def attention_checks(gpu: GPUUnderTest) -> Iterator[Check]:
    """Yield checks in every type: decodes alone (what a graph holds), prompts alone, and both in one batch."""
    with gpu.runtime.bound():
        stream = gpu.runtime.stream()
        ops = gpu.runtime.ops(stream, gpu.runtime.empty((SCRATCH_FLOATS,), np.float32))
    lengths = gpu.scale.prompt_lengths
    decodes = [(1, length) for length in lengths]
    prompts = [(length, prefix + length) for length in lengths if length < LONGEST_PROMPT for prefix in PREFIXES]
    prompts.append((min(CHUNK, max(lengths)), max(lengths)))
    batches = {"decodes": decodes, "prompts": prompts, "both": [*prompts[-2:], *decodes, *prompts[:2]]}
    for model, shape in gpu.scale.op_shapes.items():
        for kind, rows in batches.items():
            for dtype in gpu.dtypes:
                run = partial(_run, gpu, ops, stream, shape.config, rows, dtype)
                yield Check(f"paged_attention, {kind}, {model}, {dtype}", run)


def _run(gpu: GPUUnderTest, ops: Kernels, stream: Stream, config: ModelConfig, rows: Rows, dtype: str) -> str:
    check_case(gpu, ops, stream, _case(config, rows), dtype)
    return ""


def _case(config: ModelConfig, rows: Rows) -> Case:
    heads, kv_heads, dim = config.num_heads, config.num_kv_heads, config.head_dim
    counts, seq_lens = (np.array(each, np.int32) for each in zip(*rows, strict=True))
    query_start_loc = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    tokens, blocks = int(query_start_loc[-1]), -(-seq_lens // BLOCK_TOKENS)
    order = np.random.default_rng(0).permutation(2 * int(blocks.sum()))  # every second block belongs to no row
    tables = np.zeros((len(rows) + 1, int(blocks.max())), np.int32)
    kv = unwritten(len(order), LAYERS, 2, kv_heads, BLOCK_TOKENS, dim)
    slots = np.arange(1, len(rows) + 1, dtype=np.int32)[::-1].copy()
    for slot, count, length in zip(slots, blocks, seq_lens, strict=True):
        taken, order = order[:count], order[count:]
        tables[slot, :count] = taken
        kv[taken, 1] = normal((1, int(slot)), int(count), 2, kv_heads, BLOCK_TOKENS, dim)
        if length % BLOCK_TOKENS:  # beyond the sequence's end
            kv[taken[-1], 1, :, :, length % BLOCK_TOKENS :] = np.nan
    qkv = normal((2,), tokens, heads + 2 * kv_heads, dim)
    arguments = (qkv, kv, 1, tables, slots, query_start_loc, seq_lens, 1 / sqrt(dim), unwritten(tokens, heads, dim))
    return Case("paged_attention", arguments, writes=(8,), typed=(0, 1, 8), slack=SLACK)
