"""`records.normalize` for many texts at once, as code points."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medchatzh.curate import kernels
from medchatzh.records import normalize


class Normal(NamedTuple):
    """Normalised texts: text t is codes[starts[t]:starts[t + 1]]."""

    codes: NDArray[np.uint32]
    starts: NDArray[np.int64]


def normal_texts(texts: list[str]) -> Normal:
    """`records.normalize` of each text."""
    return normalised(*kernels.code_points(texts), np.ones(len(texts), bool))


def normalised(codes: NDArray[np.uint32], starts: NDArray[np.int64], wanted: NDArray[np.bool_]) -> Normal:
    """`records.normalize` of the texts `codes[starts[t]:starts[t + 1]]`; of those not wanted, nothing."""
    made, made_starts = np.empty_like(codes), np.empty_like(starts)
    is_complex = np.zeros(len(wanted), bool)
    kernels.normalized(codes, starts, wanted, normal_table(), made, made_starts, is_complex)
    if is_complex.any():
        pieces, done = [], 0
        lengths = np.diff(made_starts)
        for text in np.flatnonzero(is_complex).tolist():
            plain = codes[starts[text] : starts[text + 1]].tobytes().decode("utf-32-le", "surrogatepass")
            pieces += [made[done : made_starts[text]], kernels.code_points([normalize(plain)])[0]]
            done, lengths[text] = made_starts[text + 1], len(pieces[-1])
        made = np.concatenate([*pieces, made[done : made_starts[-1]]])
        made_starts = np.concatenate(([0], np.cumsum(lengths)))
    return Normal(made[: made_starts[-1]], made_starts)


@lru_cache(maxsize=1)
def normal_table() -> NDArray[np.uint32]:
    """Code point → what `records.normalize` makes of it where it stands alone: a code point, DROPPED, or COMPLEX."""
    characters = [chr(code) for code in range(kernels.PLANES)]
    # all at once, 20 times faster than one by one; a line feed between them joins with nothing, and goes where it stands for itself
    made = re.sub(
        r"[^\w\n]|_", "", unicodedata.normalize("NFKC", "\n".join("?" if one == "\n" else one for one in characters)).lower()
    ).split("\n")
    table = np.fromiter((ord(one) if len(one) == 1 else kernels.COMPLEX if one else kernels.DROPPED for one in made), np.uint32, len(made))
    neighbours = [code for code, character in enumerate(characters) if unicodedata.combining(character)]
    table[[*neighbours, ord("Σ"), *range(0x1100, 0x1200), *range(0xD800, 0xE000)]] = (
        kernels.COMPLEX
    )  # their meaning hangs on their neighbours
    return table
