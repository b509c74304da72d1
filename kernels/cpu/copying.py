"""Copies of KV blocks in small pieces, as systems with a layout split by layer have to make them."""

# mypy: allow-untyped-defs, allow-untyped-calls

from numba import njit


@njit(nogil=True, cache=True)
def copy_by_layer(source, destination, first_source, first_destination, num_blocks):
    """Copy blocks one layer and side (K or V) at a time; return the number of contiguous copies.

    source, destination: ``[blocks, layers, 2, kv_heads, tokens, head_dim]``. This is one compiled loop that holds no
    lock, so what it costs more than a plain copy is the cost of the small pieces.
    """
    _, layers, sides, _, _, _ = source.shape
    pieces = 0
    for block in range(num_blocks):
        for layer in range(layers):
            for side in range(sides):
                piece = source[first_source + block, layer, side]
                destination[first_destination + block, layer, side, :, :, :] = piece
                pieces += 1
    return pieces
