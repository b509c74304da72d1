"""Divides a batch's queries into the tiles that attention takes as units."""

# mypy: allow-untyped-defs, allow-untyped-calls

from numba import njit

from kernels.cpu.step.attention import COUNT, FIRST, PARTIAL, POSITION, SPLIT_AT, TABLE
from kernels.cpu.step.softmax import SPLIT


@njit(nogil=True, cache=True)
def make_tiles(query_start_loc, seq_lens, tables, tile_tokens, spreads, max_partials, tiles, partials):
    """Fill tiles [*, TILE_FIELDS] and partials [tokens, 2]; return how many tiles there are.

    query_start_loc [rows + 1], seq_lens [rows], tables [rows]: addresses of block tables. If ``spreads``, the splits of
    single tokens become tiles of their own, as long as partial results, of which there are ``max_partials``, suffice.
    """
    count, next_partial = 0, query_start_loc[-1]
    for row in range(len(seq_lens)):
        first, end, length = query_start_loc[row], query_start_loc[row + 1], seq_lens[row]
        splits = (length + SPLIT - 1) // SPLIT
        if spreads and end - first == 1 and splits > 1 and next_partial + splits <= max_partials:
            partials[first, 0], partials[first, 1] = next_partial, splits
            for split in range(splits):
                _put(tiles[count], first, 1, length - 1, tables[row], split, next_partial + split)
                count += 1
            next_partial += splits
            continue
        for begin in range(first, end, tile_tokens):
            tokens = min(tile_tokens, end - begin)
            _put(tiles[count], begin, tokens, length - end + begin, tables[row], -1, begin)
            count += 1
        for token in range(first, end):
            partials[token, 0], partials[token, 1] = token, 1
    return count


@njit(nogil=True, cache=True)
def _put(tile, first, tokens, position, table, split, partial):
    tile[FIRST], tile[COUNT], tile[POSITION] = first, tokens, position
    tile[TABLE], tile[SPLIT_AT], tile[PARTIAL] = table, split, partial
