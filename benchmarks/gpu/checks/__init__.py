"""What must be right on a GPU. A group is a function from a GPU to its checks; a new one is added to this table."""

from benchmarks.gpu.checks.answers import answer_checks
from benchmarks.gpu.checks.attending import attention_checks
from benchmarks.gpu.checks.check import Checks
from benchmarks.gpu.checks.drawing import drawing_checks
from benchmarks.gpu.checks.layers import layer_checks
from benchmarks.gpu.checks.moving import moving_checks
from benchmarks.gpu.checks.sanitizing import sanitizer_checks
from benchmarks.gpu.checks.swapping import swap_checks

CHECKS: dict[str, Checks] = {
    "layers": layer_checks,
    "attention": attention_checks,
    "draws": drawing_checks,
    "moves": moving_checks,
    "answers": answer_checks,
    "swaps": swap_checks,
    "sanitizer": sanitizer_checks,
}
