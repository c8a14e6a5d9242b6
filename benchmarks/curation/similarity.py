"""Exact similarity of two texts, written apart from the package so that its results can be judged by it."""

from __future__ import annotations

import re
import unicodedata

SHINGLE_CHARS = 5
_FOLD = re.compile(r"[\W_]+")


def folded(text: str) -> str:
    """The text without what does not tell two texts apart: width, case, white space, punctuation."""
    return _FOLD.sub("", unicodedata.normalize("NFKC", text).lower())


def shingles(text: str) -> set[str]:
    """The runs of `SHINGLE_CHARS` characters of a folded text; the text itself where it is shorter."""
    text = folded(text)
    return {text[start : start + SHINGLE_CHARS] for start in range(max(1, len(text) - SHINGLE_CHARS + 1))}


def jaccard(one: str, other: str) -> float:
    """The share of both texts' shingles that both have."""
    mine, theirs = shingles(one), shingles(other)
    return len(mine & theirs) / len(mine | theirs)
