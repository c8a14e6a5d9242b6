"""The loop of `kernel` in plain Python: the same integers without numba, and sooner where there is little to count.

N-grams are slices of bytes, which hash fast and hold tokens of any number; those of a reference are looked for only where the n-gram one
token shorter was found. A row of the table of common subsequences is one of Python's integers, however long the hypothesis.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import compress, pairwise

_WIDTH = 4  # bytes of an id


def fill(
    orders, sets, hyp_ids, hyp_sentences, hyp_starts, ref_ids, ref_sentences, ref_starts, items,
    lengths, distinct, matches, ref_lengths, ref_distinct, pair_matches, common, lcs, lcs_words,
) -> None:  # fmt: skip
    """As `kernel.fill`."""
    for item in range(len(items) - 1):
        tokens, raw, bounds = _text(hyp_ids, hyp_sentences, hyp_starts[item : item + 2])
        counts: list[Counter[Hashable]] = [Counter(tokens)]
        counts += [Counter(_grams(raw, order, range(len(tokens) - order + 1))) for order in range(2, orders + 1)]
        # What stands in any reference, and how often at most, where that is more than once.
        best: list[tuple[set[Hashable], dict[Hashable, int]]] = [(set(), {}) for _ in counts]
        lengths[item] = len(tokens)
        distinct[item] = len(counts[0]), len(counts[1])
        masks = [_masks(tokens[start:end]) for start, end in pairwise(bounds)]
        for pair in range(items[item], items[item + 1]):
            reference, raw, ref_bounds = _text(ref_ids, ref_sentences, ref_starts[pair : pair + 2])
            ref_lengths[pair] = len(reference)
            ref_distinct[pair] = len(set(reference)), len(set(pairwise(reference))) if sets else 0
            places: Iterable[int] = range(len(reference))
            grams: Sequence[Hashable] = reference
            for order, (known, (matched, highest)) in enumerate(zip(counts, best, strict=True), 1):
                if order > 1:
                    grams = _grams(raw, order, places)
                inside = [gram in known for gram in grams]
                places = list(compress(places, inside))
                if order == 1:
                    shared = places
                found = Counter(compress(grams, inside))
                repeated = {gram: min(number, known[gram]) for gram, number in found.items() if number > 1}
                matched.update(found)
                for gram, number in repeated.items():
                    highest[gram] = max(number, highest.get(gram, 1))
                if order <= 2:
                    common[pair, order - 1] = len(found)
                if order <= 4:
                    pair_matches[pair, order - 1] = len(found) + sum(repeated.values()) - len(repeated)
            words: set[int] = set()
            for start, end in pairwise(ref_bounds):
                part = [at for at in shared if start <= at < end] if len(ref_bounds) > 2 else shared
                for (first, last), bits in zip(pairwise(bounds), masks, strict=True):
                    length, read_out = _subsequence(last - first, bits, reference, part, end)
                    lcs[pair] += length
                    words |= read_out
            lcs_words[pair] = len(words) if sets else 0
        matches[item, :orders] = [len(matched) + sum(highest.values()) - len(highest) for matched, highest in best]


def _text(ids, sentences, starts) -> tuple[list[int], bytes, list[int]]:
    """Its tokens, the same as bytes, and where its sentences begin and end in it."""
    bounds = sentences[starts[0] : starts[1] + 1]
    part = ids[bounds[0] : bounds[-1]]
    return part.tolist(), part.tobytes(), (bounds - bounds[0]).tolist()


def _grams(raw: bytes, order: int, places: Iterable[int]) -> list[bytes]:
    """The n-grams that begin there; a shorter rest at the end is equal to none."""
    size = order * _WIDTH
    return [raw[at : at + size] for at in [at * _WIDTH for at in places]]


def _masks(tokens: Sequence[int]) -> dict[int, int]:
    """Token → an integer whose bits say where it stands."""
    masks: dict[int, int] = {}
    for at, token in enumerate(tokens):
        masks[token] = masks.get(token, 0) | 1 << at
    return masks


def _subsequence(length: int, masks: dict[int, int], reference: Sequence[int], places: Sequence[int], end: int) -> tuple[int, set[int]]:
    """Length of the longest common subsequence of a sentence of `length` tokens and one of the reference that ends at `end`, and the tokens
    that `kernel._read_out` finds in it. `places`: where tokens of the hypothesis stand in that one.

    Bit j of a row is 0 where the subsequence grows with token j of the hypothesis (Hyyrö 2004).
    """
    row = full = (1 << length) - 1
    rows = []
    for at in places:
        token = reference[at]
        bits = masks.get(token, 0)
        both = row & bits
        row = (row + both) | (row - both)
        rows.append((at, token, bits, row))
    grown = length - (row & full).bit_count()
    found: set[int] = set()
    below, column = end, length
    for at, token, bits, row in reversed(rows):
        left = (1 << column) - 1
        if at + 1 < below:  # rows between, which repeat this one and match nothing
            column = (~row & left).bit_length()
            left = (1 << column) - 1
        below = at
        column = ((bits | ~row) & left).bit_length()
        if not column:
            break
        if bits >> (column - 1) & 1:
            found.add(token)
            column -= 1
    return grown, found
