"""The bytes and operations that a step cannot do without, by kind of operation, counted from its operands.

Bytes: weights and keys and values once, activations once for each operation that reads or writes them, though these
mostly stay in caches. Operations: a product and a sum count as two, an exponential as one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kernels.cpu.step.activations import BYTES_BLOCK, COLUMNS, ROWS
from kernels.cpu.step.formats import FORMATS
from kernels.cpu.step.formats.format import Quantised
from service.execution.forward_pass import Attend, Embed, Norm, Op, Project, RotateAndStore, SiluMul, Value
from service.execution.kv import KVFormat
from service.execution.models.architecture import ModelConfig

ACTIVATION = BYTES_BLOCK / (COLUMNS * ROWS)  # bytes of one as a product of bytes reads it

PROJECTIONS = {
    Value.QKV: "qkv",
    Value.GATE_UP: "gate_up",
    Value.LOGITS: "head",
    (Value.ATTENDED, Value.RESIDUAL): "attention_out",
    (Value.ACTIVATED, Value.RESIDUAL): "down",
}
KINDS = ("qkv", "attention_out", "gate_up", "down", "head", "attention", "rotary", "norm", "silu", "embedding")


@dataclass(frozen=True, slots=True)
class Step:
    """Rows of ``queries`` tokens each, the last of which is token number ``context``; each row draws."""

    rows: int
    queries: int
    context: int

    @property
    def tokens(self) -> int:
        """How many tokens are computed."""
        return self.rows * self.queries

    @property
    def pairs(self) -> int:
        """How many pairs of a query and a token that it sees there are."""
        return self.rows * sum(range(self.context - self.queries + 1, self.context + 1))


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes and operations; ``unit`` says of which kind these are: a field of `limits.Limits`."""

    bytes: float
    operations: float
    unit: str

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.bytes + other.bytes, self.operations + other.operations, self.unit)


def kind_of(op: Op) -> str:
    """Return the kind of an operation, one of `KINDS`."""
    match op:
        case Project(_, source, target):
            return PROJECTIONS.get(target) or PROJECTIONS[source, target]
        case Attend():
            return "attention"
        case RotateAndStore():
            return "rotary"
        case Norm():
            return "norm"
        case SiluMul():
            return "silu"
        case Embed():
            return "embedding"


def cost(ops: Sequence[Op], kind: str, config: ModelConfig, kv_format: KVFormat, step: Step) -> Cost:
    """Return what all operations of a kind cost together."""
    total = Cost(0, 0, "floats")
    for op in ops:
        if kind_of(op) == kind:
            total = _cost(op, config, kv_format, step) + total
    return total


def _cost(op: Op, config: ModelConfig, kv_format: KVFormat, step: Step) -> Cost:
    tokens, hidden, inner = step.tokens, config.hidden_size, config.intermediate_size
    heads, kv_heads, dim, item = config.num_heads, config.num_kv_heads, config.head_dim, kv_format.dtype.itemsize
    match op:
        case Project():
            return _product(op, step)
        case Attend():
            kv = 2 * step.rows * step.context * kv_heads * kv_format.head_dim * item
            activations = tokens * heads * dim * (item + ACTIVATION)
            return Cost(kv + activations, 4 * step.pairs * heads * dim, "pairs" if item == 2 else "floats")
        case RotateAndStore():
            numbers = tokens * (heads + 2 * kv_heads) * dim
            return Cost(numbers * (4 + item), 4 * tokens * (heads + kv_heads) * dim, "floats")
        case Norm():
            rows = step.rows if op.target is Value.LAST_HIDDEN else tokens
            return Cost(rows * hidden * (4 + ACTIVATION), 4 * rows * hidden, "floats")
        case SiluMul():
            return Cost(tokens * inner * (8 + ACTIVATION), 5 * tokens * inner, "floats")
        case Embed(table):
            row_bytes = table.nbytes / sum(part.rows for part in table.parts)
            return Cost(tokens * (row_bytes + 4 * hidden), 2 * tokens * hidden, "floats")


def _product(op: Project, step: Step) -> Cost:
    """Parts of a matrix may differ in type; the unit is the first one's."""
    matrix, rows = op.layer.weight, step.rows if op.target is Value.LOGITS else step.tokens
    is_quantised = isinstance(FORMATS[matrix.parts[0].format], Quantised)
    outputs = sum(part.rows for part in matrix.parts)
    written = 4 * rows * outputs * (2 if op.target is Value.RESIDUAL else 1)
    read = rows * matrix.columns * (ACTIVATION if is_quantised else 4)
    return Cost(
        matrix.nbytes + read + written, 2 * rows * outputs * matrix.columns, "bytes" if is_quantised else "floats"
    )
