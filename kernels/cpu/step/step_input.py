"""What a program is told of a step: an array of int64 with these elements, addresses of arrays among them."""

TOKENS = 0  # how many
DRAWS = 1  # how many tokens have logits
ROWS_PER_UNIT = 2  # of operations whose units are rows of activations
TILES = 3  # how many tiles of queries there are
INPUT_IDS = 4  # int32 [tokens]; -1 - slot stands for the token drawn last in that slot
LAST = 5  # int32 [slots]: the token drawn last
POSITIONS = 6  # int32 [tokens]
SLOT_MAPPING = 7  # int64 [tokens]
LOGITS_INDICES = 8  # int32 [draws]
TILE_LIST = 9  # int64 [tiles, `tiles.FIELDS`]
PARTIALS = 10  # int64 [tokens, 2]: where a token's partial results of attention begin, and how many there are
POOL = 11  # the pool of keys and values

NUM_INPUTS = 16
