"""Memory by addresses, for Numba code: pointers that are indexed like arrays."""

# mypy: allow-untyped-defs, allow-untyped-calls

from typing import Any

from numba import types
from numba.extending import intrinsic


def _pointer_to(element: types.Type) -> Any:
    @intrinsic
    def pointer(typing_context, address):
        def generate(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return types.CPointer(element)(types.int64), generate

    return pointer


floats = _pointer_to(types.float32)
ints = _pointer_to(types.int32)
longs = _pointer_to(types.int64)
shorts = _pointer_to(types.uint16)
