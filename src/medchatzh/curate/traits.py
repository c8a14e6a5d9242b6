"""What gates must know of an answer beyond counts and signs: how it ends, whether it repeats itself, what it has of its question.

One compiled pass over the answers' code points, about 8 ns a character. Each trait errs to the side of looking: where a rule could fire,
the trait says so, whatever hash values collide.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from medchatzh.curate.kernels import mixed
from medchatzh.curate.rules.topic import COMMON_HANZI

PIECE_ENDS = "。！？!?；;，,\n"
LOOP_CHARS, LOOP_GRAM = 1000, 4
_GRAM_BITS, _PIECE_BITS = 13, 10
_HANZI, _COMMON, _ENDS, _SPACE = 1, 2, 4, 8


class Traits(NamedTuple):
    """[num_records] each."""

    last: NDArray[np.uint32]
    """Code point of the last character of the last answer that is no white space; 0 where there is none."""
    repeats: NDArray[np.int64]
    """How often the most frequent piece (what stands between two marks of `PIECE_ENDS`) stands in one answer, at least."""
    gram_share: NDArray[np.float64]
    """Different 4-grams among those of an answer's first 1,000 characters, of its most monotonous answer, at most; 1 for short answers."""
    new_hanzi: NDArray[np.int64]
    """Hanzi of the answers that do not stand in the first question."""
    shared_hanzi: NDArray[np.int64]
    """Hanzi of the answers that stand in the first question and are not among `COMMON_HANZI`."""


def traits(
    codes: NDArray[np.uint32],
    starts: NDArray[np.int64],
    owner: NDArray[np.int64],
    is_answer: NDArray[np.bool_],
    first_user: NDArray[np.int64],
) -> Traits:
    """One pass over the answers of R records.

    Text (turn) t is `codes[starts[t]:starts[t + 1]]` and belongs to record `owner[t]`; `first_user` [R] is the text of a record's first
    question, or the number of texts where it has none.
    """
    num = len(first_user)
    made = Traits(np.zeros(num, np.uint32), np.zeros(num, np.int64), np.ones(num), np.zeros(num, np.int64), np.zeros(num, np.int64))
    _scan(codes, starts, owner, is_answer, first_user, _kinds(), *made)
    return made


@lru_cache(maxsize=1)
def _kinds() -> NDArray[np.uint8]:
    kinds = np.zeros(0x10000, np.uint8)
    kinds[0x3400:0x4DC0] |= _HANZI
    kinds[0x4E00:0xA000] |= _HANZI
    kinds[[ord(character) for character in COMMON_HANZI]] |= _COMMON
    kinds[[ord(character) for character in PIECE_ENDS]] |= _ENDS
    kinds[[code for code in range(0x10000) if chr(code).isspace()]] |= _SPACE
    return kinds


@njit(cache=True, nogil=True)
def _scan(codes, starts, owners, is_answer, first_user, kinds, last, repeats, gram_share, new_hanzi, shared_hanzi):
    in_question = np.zeros(kinds.size, np.int64)  # the record, plus 1, whose question the character last stood in: nothing is ever cleared
    grams = np.zeros(1 << _GRAM_BITS, np.int64)
    pieces, counted, counts = (
        np.zeros(1 << _PIECE_BITS, np.uint64),
        np.zeros(1 << _PIECE_BITS, np.int64),
        np.zeros(1 << _PIECE_BITS, np.int64),
    )
    gram_mask, piece_mask = np.uint64(grams.size - 1), np.uint64(pieces.size - 1)
    previous = -1
    for text in range(starts.size - 1):
        begin, end, owner = starts[text], starts[text + 1], owners[text]
        if owner != previous and first_user[owner] < starts.size - 1:
            for place in range(starts[first_user[owner]], starts[first_user[owner] + 1]):
                if codes[place] < kinds.size:
                    in_question[codes[place]] = owner + 1
        previous = owner
        if not is_answer[text]:
            continue
        stamp = text + 1
        piece, piece_chars, num_pieces, num_grams, different = np.uint64(0), 0, 0, 0, 0
        window = np.uint64(0)
        ending = np.uint32(0)
        for place in range(begin, end + 1):
            code = codes[place] if place < end else np.uint32(10)
            kind = kinds[code] if code < kinds.size else np.uint8(0)
            if place < end and place - begin < LOOP_CHARS:
                window = (window << np.uint64(16)) ^ np.uint64(code)
                if place - begin >= LOOP_GRAM - 1:
                    num_grams += 1
                    slot = mixed(window) & gram_mask
                    if grams[slot] != stamp:
                        grams[slot] = stamp
                        different += 1
            if kind & _ENDS:
                if piece_chars > 1 and num_pieces < pieces.size // 2:
                    slot = mixed(piece) & piece_mask
                    while counted[slot] == stamp and pieces[slot] != piece:
                        slot = (slot + np.uint64(1)) & piece_mask
                    if counted[slot] != stamp:
                        counted[slot], pieces[slot], counts[slot] = stamp, piece, 0
                        num_pieces += 1
                    counts[slot] += 1
                    repeats[owner] = max(repeats[owner], counts[slot])
                elif piece_chars > 1:
                    repeats[owner] = 1 << 30  # more pieces than the table holds: somebody must look
                piece, piece_chars = np.uint64(0), 0
            elif not kind & _SPACE:
                piece = piece * np.uint64(0x9E3779B97F4A7C15) + np.uint64(code) + np.uint64(1)
                piece_chars += 1
            if place == end:
                break
            if not kind & _SPACE:
                ending = code
            if kind & _HANZI:
                if in_question[code] == owner + 1:
                    shared_hanzi[owner] += not kind & _COMMON
                else:
                    new_hanzi[owner] += 1
        last[owner] = ending
        if num_grams >= 12:
            gram_share[owner] = min(gram_share[owner], different / num_grams)
