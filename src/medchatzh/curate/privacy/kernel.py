"""The compiled loop of the gate (numba; compiled once, then cached on disk)."""

from __future__ import annotations

import numpy as np
from numba import njit

from medchatzh.curate.kernels import PLANES


@njit(cache=True, nogil=True)
def scan(codes, starts, classes, roles, bits, begins, first, last, min_digits, max_gap, found):
    """Fill found [T, W + 1] with what each text (C code points, text t is `codes[starts[t]:starts[t + 1]]`) holds: the last places of
    the sequences seen, and in the last column 1 for a number.

    classes [PLANES]; of each class: roles (1 gap, 2 digit), bits [classes, W] (the places it may take) and begins (a first place is
    among them); first, last [W]: places where
    sequences begin and end.
    """
    num_words = first.size
    state = np.zeros(num_words, np.uint64)
    one = np.uint64(1)
    for text in range(starts.size - 1):
        state[:] = 0
        alive = np.uint64(0)
        run = gap = 0
        for place in range(starts[text], starts[text + 1]):
            code = codes[place]
            kind = classes[code] if code < PLANES else 0
            role = roles[kind]
            if role == 0:
                run = 0
            elif role == 1:
                gap += 1
            else:
                run = run + 1 if gap <= max_gap else 1
                gap = 0
                if run >= min_digits:
                    found[text, num_words] = 1
            if alive or begins[kind]:
                alive = np.uint64(0)
                for word in range(num_words):
                    after = ((state[word] << one) | first[word]) & bits[kind, word]
                    state[word] = after
                    alive |= after
                    found[text, word] |= after & last[word]
