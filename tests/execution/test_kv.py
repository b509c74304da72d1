"""The pool's layout."""

from collections.abc import Callable

import numpy as np

from service.execution.kv import allocate_kv_pool, kv_bytes_per_block


def test_a_block_is_one_contiguous_piece_of_the_stated_size(random_model: Callable) -> None:
    config, _ = random_model(kv_heads=2, head_dim=16)
    pool = allocate_kv_pool(config, 5)
    assert pool.shape == (5, 2, 2, 2, 16, 16)
    assert pool[3].flags.c_contiguous
    assert pool.strides[0] == kv_bytes_per_block(config) == 2 * 2 * 2 * 16 * 16 * 4


def test_a_block_of_narrower_elements_has_fewer_bytes(random_model: Callable) -> None:
    config, _ = random_model()
    assert 2 * kv_bytes_per_block(config, np.float16) == kv_bytes_per_block(config)
