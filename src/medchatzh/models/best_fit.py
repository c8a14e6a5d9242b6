"""Best fit, the inner loop of packing (numba: 2 million dialogues in a second; compiled once, then cached on disk)."""

import numpy as np
from numba import njit


@njit(cache=True)
def best_fit(lengths, row_tokens, num_rows_open):
    """The row of each example. Of the open rows the fullest takes it, of equally full ones the oldest; the fullest is closed for a new
    one."""
    rows = np.empty(len(lengths), np.int64)
    room = np.empty(num_rows_open, np.int64)
    number = np.empty(num_rows_open, np.int64)
    num_open = num_rows = 0
    for example, length in enumerate(lengths):
        best = -1
        fullest = 0
        for place in range(num_open):
            if room[place] >= length and (best < 0 or (room[place], number[place]) < (room[best], number[best])):
                best = place
            if (room[place], number[place]) < (room[fullest], number[fullest]):
                fullest = place
        if best < 0:
            if num_open < num_rows_open:
                best = num_open
                num_open += 1
            else:
                best = fullest
            room[best] = row_tokens
            number[best] = num_rows
            num_rows += 1
        room[best] -= length
        rows[example] = number[best]
    return rows
