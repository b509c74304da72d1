"""Launches the ops of `kernels.reference` that lead from logits to the next step's tokens.

Logits are float32 [rows, vocab] and begin at a multiple of 16 bytes. All other arrays have the reference's shapes and
types, and are on the device too: nothing comes back to the host.
"""

# mypy: allow-untyped-calls

from typing import Any

from kernels.cuda import logits as logit_kernels
from kernels.cuda import logprobs, sampling
from kernels.cuda import tokens as token_kernels
from kernels.cuda.kernel import Kernel, Launch

Array = Any  # NumPy's or CuPy's


class DrawingOps:
    """The ops that draw tokens, on the stream that ``launch`` stands for."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch

    def pick_tokens(self, input_ids: Array, last: Array, out: Array) -> None:
        """See `kernels.reference.pick_tokens`."""
        self._run_each(token_kernels.pick_tokens(), len(input_ids), input_ids, last, len(input_ids), out)

    def put_tokens(self, tokens: Array, slots: Array, last: Array) -> None:
        """See `kernels.reference.put_tokens`."""
        self._run_each(token_kernels.put_tokens(), len(tokens), tokens, slots, len(tokens), last)

    def count_tokens(self, tokens: Array, slots: Array, seen: Array, counts: Array) -> None:
        """See `kernels.reference.count_tokens`."""
        sizes = (len(tokens), counts.shape[1])
        self._run_each(token_kernels.count_tokens(), len(tokens), tokens, slots, *sizes, seen, counts)

    def add_biases(
        self, logits: Array, rows: Array, slots: Array, num_biases: Array, tokens: Array, biases: Array
    ) -> None:
        """See `kernels.reference.add_biases`; float32."""
        kernel, room = logit_kernels.add_biases(), tokens.shape[1]
        grid = (len(rows), -(-room // kernel.threads[0]))
        self._run(kernel, grid, logits, logits.shape[1], rows, slots, num_biases, tokens, biases, room)

    def penalize(self, logits: Array, rows: Array, slots: Array, penalties: Array, seen: Array, counts: Array) -> None:
        """See `kernels.reference.penalize`; float32."""
        kernel, vocabulary = logit_kernels.penalize(), logits.shape[1]
        grid = (len(rows), -(-vocabulary // kernel.threads[0]))
        self._run(kernel, grid, logits, vocabulary, rows, slots, penalties, seen, counts)

    def finite_rows(self, logits: Array, out: Array) -> None:
        """See `kernels.reference.finite_rows`; float32."""
        self._run(logit_kernels.finite_rows(), (len(logits),), logits, logits.shape[1], out)

    def clear_rows(self, logits: Array, ok: Array) -> None:
        """See `kernels.reference.clear_rows`; float32."""
        self._run(logit_kernels.clear_rows(), (len(logits),), logits, ok, logits.shape[1])

    def sample(
        self,
        logits: Array,
        temperature: Array,
        top_k: Array,
        top_p: Array,
        min_p: Array,
        seeds: Array,
        positions: Array,
        out: Array,
    ) -> None:
        """See `kernels.reference.sample`; float32, within the tolerance of `kernels.cuda.sampling`."""
        parameters = (temperature, top_k, top_p, min_p, seeds, positions)
        self._run(sampling.sample(), (len(logits),), logits, logits.shape[1], *parameters, out)

    def top_logprobs(self, logits: Array, rows: Array, tokens: Array, chosen: Array, ids: Array, values: Array) -> None:
        """See `kernels.reference.top_logprobs`; float32, of finite logits."""
        count, vocabulary = ids.shape[1], logits.shape[1]
        if count > vocabulary:
            raise ValueError(f"cannot report the likeliest {count} of {vocabulary} tokens")
        kernel = logprobs.top_logprobs()
        self._run(kernel, (len(rows),), logits, vocabulary, rows, tokens, chosen, count, ids, values)

    def _run_each(self, kernel: Kernel, count: int, *arguments: Any) -> None:
        """Launch a thread for each of ``count``."""
        self._run(kernel, (-(-count // kernel.threads[0]),), *arguments)

    def _run(self, kernel: Kernel, grid: tuple[int, ...], *arguments: Any) -> None:
        """Launch a kernel, but nothing for an empty batch: CUDA refuses empty grids."""
        if all(grid):
            self._launch(kernel, grid, *arguments)
