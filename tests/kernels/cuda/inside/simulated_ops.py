"""The ops have the reference's names and arguments."""

import inspect

from kernels import reference
from kernels.cuda.ops import Ops


def test_every_op_of_the_reference_is_there_with_the_same_arguments() -> None:
    ops = {
        name: list(inspect.signature(value).parameters)
        for name, value in vars(reference).items()
        if inspect.isfunction(value) and value.__module__ == reference.__name__ and not name.startswith("_")
    }
    for definition in ("uniform", "quantise", "quantised_product", "quantised_linear"):  # of a CPU's products
        del ops[definition]
    assert {name: list(inspect.signature(getattr(Ops, name)).parameters)[1:] for name in ops} == ops
