"""The nearest of many texts to each of some others: cosine similarity of their sets of character bigrams, weighted by rarity. Exact.

Legend: Q queries; D documents, read in blocks of `BLOCK_DOCUMENTS`, so that memory depends on the queries and the vocabulary alone; U
distinct bigrams of the queries; P postings of a block. A bigram is packed into 42 bits. Weights are whole numbers, so that sums do not
depend on their order, and a tie is one on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from medchatzh.records import normalize

BLOCK_DOCUMENTS = 1 << 15
"""The sums of a block, 256 KiB, stay in a core's second cache, which is what the speed hangs on."""
_CODE_BITS = 21
_WEIGHT_SCALE = 1024
_MERGE_AT = 1 << 23
"""So many bigrams with their counts (128 MB) are gathered before those of the blocks are merged."""


class Nearest(NamedTuple):
    """For each query [Q]: the place of its nearest document (the earliest of equally near ones), and their similarity, 0 to 1."""

    places: NDArray[np.int64]
    similarities: NDArray[np.float64]


def nearest(queries: Sequence[str], documents: Callable[[], Iterable[str]]) -> Nearest:
    """`documents` is called twice and gives the same texts each time. A query that shares nothing with any has the first, at 0.

    Texts are compared normalised (`records.normalize`). ValueError where there is no document.
    """
    keys, counts, num_documents = _vocabulary(documents())
    if not num_documents:
        raise ValueError("no document to find the nearest of")
    idf = np.log((num_documents + 1) / (np.append(counts, 0) + 0.5))  # the last is that of an unknown bigram
    weights = np.rint(np.maximum(idf, 0) ** 2 * _WEIGHT_SCALE).astype(np.int64)
    owners, asked = _pairs(list(queries))
    wanted, terms = np.unique(asked, return_inverse=True)
    term_weights = weights[_places(keys, wanted)]
    terms = terms[np.lexsort((terms, term_weights[terms], owners))]
    starts = np.searchsorted(owners, np.arange(len(queries) + 1))
    best, places = np.zeros(len(queries)), np.zeros(len(queries), np.int64)
    done = 0
    for texts in _blocks(documents()):
        owners, found = _pairs(texts)
        sizes = _sums(owners, weights[_places(keys, found)], len(texts))
        held = _places(wanted, found)
        owners, held = owners[held < len(wanted)], held[held < len(wanted)]
        order = np.argsort(held, kind="stable")
        block = _Block(
            posted=owners[order].astype(np.int32),
            ends=np.concatenate(([0], np.cumsum(np.bincount(held, minlength=len(wanted))))),
            held=held,
            starts=np.searchsorted(owners, np.arange(len(texts) + 1)),
            scales=np.divide(1.0, np.sqrt(sizes), out=np.zeros(len(texts)), where=sizes > 0),
        )
        _search(terms, starts, term_weights, block, done, best, places)
        done += len(texts)
    norms = np.sqrt(_sums(np.repeat(np.arange(len(queries)), np.diff(starts)), term_weights[terms], len(queries)))
    return Nearest(places, np.divide(best, norms, out=np.zeros(len(queries)), where=norms > 0))


class _Block(NamedTuple):
    """Documents: those that have term u are posted[ends[u]:ends[u + 1]]; document d has the terms held[starts[d]:starts[d + 1]]."""

    posted: NDArray[np.int32]
    ends: NDArray[np.int64]
    held: NDArray[np.int64]
    starts: NDArray[np.int64]
    scales: NDArray[np.float64]
    """1 / norm."""


@njit(cache=True, nogil=True)
def _search(terms, starts, weights, block, offset, best, places):
    """Improve best and places [Q] by the documents of a block. The terms of a query come by weight, the lightest first.

    A document's norm is at least the root of the weight W that it shares with the query, so that W / norm is at most that root. So the
    lightest terms, as long as their weights add up to less than the square of the best so far, find nothing better by themselves; they
    are the frequent ones, and looked for only in documents that the others found.
    """
    sums, touched = np.zeros(block.scales.size, np.int64), np.empty(block.scales.size, np.int32)
    light = np.zeros(weights.size, np.int64)
    for query in range(starts.size - 1):
        highest, at = best[query], places[query]
        first, rest = starts[query], 0
        limit = highest * highest * (1 - 1e-9)
        while first < starts[query + 1] and (rest + weights[terms[first]] < limit or not weights[terms[first]]):
            light[terms[first]] = weights[terms[first]]
            rest += weights[terms[first]]
            first += 1
        num_touched = 0
        for entry in range(first, starts[query + 1]):
            term = terms[entry]
            for place in range(block.ends[term], block.ends[term + 1]):
                document = block.posted[place]
                if not sums[document]:
                    touched[num_touched] = document
                    num_touched += 1
                sums[document] += weights[term]
        for number in range(num_touched):
            document = touched[number]
            shared, scale = sums[document], block.scales[document]
            sums[document] = 0
            if (shared + rest) * scale < highest:
                continue
            for place in range(block.starts[document], block.starts[document + 1]):
                shared += light[block.held[place]]
            value = shared * scale
            if value > highest or (value == highest and offset + document < at):
                highest, at = value, offset + document
        best[query], places[query] = highest, at
        for entry in range(starts[query], first):
            light[terms[entry]] = 0


def _sums(owners: NDArray[np.int64], values: NDArray[np.int64], num_owners: int) -> NDArray[np.float64]:
    """The sum of each owner's values, which is exact in 53 bits."""
    return np.asarray(np.bincount(owners, weights=values, minlength=num_owners), np.float64)


def _blocks(documents: Iterable[str]) -> Iterator[list[str]]:
    stream = iter(documents)
    while texts := list(islice(stream, BLOCK_DOCUMENTS)):
        yield texts


def _pairs(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """(owners, bigrams): each distinct bigram of each text once, in the order of the texts. A text of one character is a bigram."""
    normal = [normalize(text) for text in texts]
    lengths = np.fromiter(map(len, normal), np.int64, len(normal))
    codes = np.frombuffer("".join(normal).encode("utf-32-le", "surrogatepass"), np.uint32)
    keys, counts = np.empty(len(codes), np.uint64), np.empty(len(normal), np.int64)
    num_keys = _distinct(codes, lengths, keys, counts)
    return np.repeat(np.arange(len(normal)), counts), keys[:num_keys]


@njit(cache=True, nogil=True)
def _distinct(codes, lengths, keys, counts):
    """Fill keys with the sorted distinct bigrams of text after text, and counts [texts]; returns how many they are."""
    begin, filled = 0, 0
    for text in range(lengths.size):
        length = lengths[text]
        if length == 1:
            keys[filled] = codes[begin]
        for place in range(length - 1):
            keys[filled + place] = np.uint64(codes[begin + place]) << np.uint64(_CODE_BITS) | np.uint64(codes[begin + place + 1])
        begin += length
        found = keys[filled : filled + max(length - 1, min(length, 1))]
        found.sort()
        kept = 0
        for place in range(found.size):
            if not place or found[place] != found[kept - 1]:
                found[kept] = found[place]
                kept += 1
        counts[text] = kept
        filled += kept
    return filled


def _vocabulary(documents: Iterable[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64], int]:
    """(distinct bigrams, in how many documents each stands, number of documents)."""
    keys, counts = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    num_documents = 0
    for texts in _blocks(documents):
        num_documents += len(texts)
        found, found_in = np.unique(_pairs(texts)[1], return_counts=True)
        keys.append(found)
        counts.append(found_in)
        if sum(map(len, keys)) > _MERGE_AT:
            keys, counts = _merged(keys, counts)
    (distinct,), (totals,) = _merged(keys, counts)
    return distinct, totals, num_documents


def _merged(keys: list[NDArray[np.uint64]], counts: list[NDArray[np.int64]]) -> tuple[list[NDArray[np.uint64]], list[NDArray[np.int64]]]:
    distinct, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    return [distinct], [_sums(inverse, np.concatenate(counts), len(distinct)).astype(np.int64)]


def _places(known: NDArray[np.uint64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where each key stands among the known, which are sorted; their number for a key that is unknown."""
    places = np.searchsorted(known, keys)
    is_known = places < len(known)
    is_known[is_known] = known[places[is_known]] == keys[is_known]
    return np.where(is_known, places, len(known))
