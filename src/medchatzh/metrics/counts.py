"""Tokens → the integers that all text metrics are made of, by item and by reference.

Every score, of an answer or of a corpus, of any category or resample of the items, is arithmetic on these. They are counted once, by a
compiled loop (`kernel`) or by the same in plain Python (`plain`): same integers, checked in the tests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medchatzh.metrics.segment import Tokens

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]
Offsets = NDArray[np.int64]

# Under this many tokens plain Python is done before numba is imported (about a second of work either way).
_COMPILED_FROM = 1_000_000


class Stream(NamedTuple):
    """Texts as numbers. Sentence s is ids[sentences[s]:sentences[s + 1]], text t the sentences starts[t] to starts[t + 1]."""

    ids: Ints
    sentences: Offsets
    starts: Offsets


class Counts(NamedTuple):
    """Of n items and their m references; those of item i are `items[i]` to `items[i + 1]`. Orders are in the columns, unigrams first."""

    items: Offsets
    """(n + 1,)"""
    lengths: Ints
    """(n,) tokens of the hypothesis."""
    distinct: Ints
    """(n, 2) different unigrams and bigrams of the hypothesis."""
    matches: Ints
    """(n, 5) n-grams of the hypothesis, each as often as it stands in the reference that has most of it: BLEU's numerators."""
    ref_lengths: Ints
    """(m,)"""
    ref_distinct: Ints
    """(m, 2)"""
    pair_matches: Ints
    """(m, 4) n-grams in common with this one reference, each as often as in both."""
    common: Ints
    """(m, 2) different unigrams and bigrams in common."""
    lcs: Ints
    """(m,) length of the longest common subsequence; of texts of several sentences the sum over all pairs of sentences."""
    lcs_words: Ints
    """(m,) different tokens in the longest common subsequence that pltrdy's `rouge` reads out, over all pairs of sentences."""

    @property
    def item_of(self) -> NDArray[np.int64]:
        """(m,) the item that a reference belongs to."""
        return np.repeat(np.arange(len(self.lengths)), np.diff(self.items))


def best(values: Floats, counts: Counts) -> NDArray[np.int64]:
    """(n,) for each item the first of its references with the largest of `values` (m,). Every item needs a reference."""
    owners = counts.item_of
    highest = np.flatnonzero(values == np.maximum.reduceat(values, counts.items[:-1])[owners])[::-1]
    first = np.empty(len(counts.lengths), np.int64)
    first[owners[highest]] = highest  # of several the last one written stays: the first
    return first


def count(
    hypotheses: Sequence[Sequence[Tokens]],
    references: Sequence[Sequence[Tokens]],
    items: Offsets,
    compiled: bool | None,
    orders: int = 5,
    sets: bool = True,
) -> Counts:
    """Count texts given as sentences of tokens. `compiled`: by numba or in plain Python; None takes what is sooner done.

    `orders`: the longest n-grams counted, 2 to 5; what would count longer ones stays 0. BLEU's methods 5 and 7 look one beyond its four.
    `sets`: without, what only the libraries that count sets need stays 0 too (the references' different bigrams, `lcs_words`): a fourth of
    the time.
    Texts that are all strings are counted by the character.
    """
    hyp_sentences = [sentence for text in hypotheses for sentence in text]
    ref_sentences = [sentence for text in references for sentence in text]
    hyp_ids, ref_ids = encoded(hyp_sentences, ref_sentences)
    hyps = Stream(hyp_ids, offsets(hyp_sentences), offsets(hypotheses))
    refs = Stream(ref_ids, offsets(ref_sentences), offsets(references))
    if compiled is None:
        compiled = worth_compiling(len(hyp_ids) + len(ref_ids))
    fill: Any
    if compiled:
        from medchatzh.metrics.kernel import fill
    else:
        from medchatzh.metrics.plain import fill
    n, m = len(hypotheses), len(references)
    shapes = [(n,), (n, 2), (n, 5), (m,), (m, 2), (m, 4), (m, 2), (m,), (m,)]
    counts = Counts(items, *(np.zeros(shape, np.int32) for shape in shapes))
    fill(orders, sets, *hyps, *refs, *counts)
    return counts


def worth_compiling(num_tokens: int) -> bool:
    """Whether numba is there, and so much to count that it pays to import it."""
    return num_tokens >= _COMPILED_FROM and find_spec("numba") is not None


def encoded(*groups: Sequence[Tokens]) -> list[Ints]:
    """The tokens of the texts of each group as numbers, the same number for the same token in all groups."""
    if all({str}.issuperset(map(type, texts)) for texts in groups):
        joined = ["".join(texts) for texts in groups]  # type: ignore[arg-type]
        return [np.array([text]).view(np.int32)[: len(text)] for text in joined]
    vocabulary: defaultdict[str, int] = defaultdict()
    vocabulary.default_factory = vocabulary.__len__
    return [np.fromiter((vocabulary[token] for text in texts for token in text), np.int32) for texts in groups]


def offsets(texts: Sequence[Sequence[Any]]) -> Offsets:
    """(n + 1,) where each of n sequences begins and ends in all of them joined."""
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=offsets[1:])
    return offsets
