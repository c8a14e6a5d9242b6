"""Answers and their references as tokens, and what was counted in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import groupby
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from medchatzh.metrics.counts import Counts, count, encoded, offsets
from medchatzh.metrics.segment import CHARACTERS, Segmenter, Tokens

Splitter: TypeAlias = Callable[[Tokens], Sequence[Tokens]]
"""Tokens → the sentences that a library makes of them; the tokens alone, as they are, where it changes nothing."""


class Batch:
    """n hypotheses, each with its references (0 or more), as tokens; `of` takes texts. `compiled` as in `counts.count`; `sets`: whether the
    ROUGE of `rouge` or `rouge-chinese` will be asked for.

    Characters may come as strings, all of them or none: they are then counted without a Python object a token.
    """

    @classmethod
    def of(
        cls,
        answers: Sequence[str],
        references: Sequence[Sequence[str]],
        segmenter: Segmenter = CHARACTERS,
        compiled: bool | None = None,
        sets: bool = True,
    ) -> Batch:
        """Of texts, cut by `segmenter`: it must be that of the metric that scores them."""
        hypotheses = [segmenter.tokens(text) for text in answers]
        return cls(hypotheses, [[segmenter.tokens(text) for text in group] for group in references], compiled, sets)

    def __init__(
        self, hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]], compiled: bool | None = None, sets: bool = True
    ) -> None:
        if len(hypotheses) != len(references):
            raise ValueError(f"{len(hypotheses)} answers, but references of {len(references)}; give each answer a list of its references")
        self._hypotheses = hypotheses
        self._references = [reference for group in references for reference in group]
        self._items = offsets(references)
        self._compiled = compiled
        self._sets = sets

    @cached_property
    def counts(self) -> Counts:
        """Every text is one sentence."""
        return count(
            [[text] for text in self._hypotheses], [[text] for text in self._references], self._items, self._compiled, sets=self._sets
        )

    @property
    def referenced(self) -> Counts:
        """The counts; ValueError where an item has no reference."""
        missing = np.flatnonzero(np.diff(self._items) == 0)
        if missing.size:
            raise ValueError(f"item {missing[0]} of {len(self._hypotheses)} has no reference; give each at least one")
        return self.counts

    def recounted(self, split: Splitter, signs: str) -> tuple[NDArray[np.int64], Counts]:
        """(k,) the references that `split` changes, or whose hypothesis it does, and the counts of these, without n-grams beyond two.

        A text of characters without one of `signs` and without white space must be left by `split` as it is.
        """
        assert self._sets, "made for metrics that count no sets"
        hyp_cut, ref_cut = _changed(self._hypotheses, split, signs), _changed(self._references, split, signs)
        item_of = self.counts.item_of.tolist()
        pairs = [pair for pair, item in enumerate(item_of) if item in hyp_cut or pair in ref_cut]
        groups = [list(group) for _, group in groupby(pairs, item_of.__getitem__)]
        hyps = [hyp_cut.get(item_of[pair], [self._hypotheses[item_of[pair]]]) for pair, *_ in groups]
        refs = [ref_cut.get(pair, [self._references[pair]]) for pair in pairs]
        return np.array(pairs, np.int64), count(hyps, refs, offsets(groups), self._compiled, orders=2)


_SPACES = [number for number in range(0x3001) if chr(number).isspace()]  # there is none beyond


def _changed(texts: Sequence[Tokens], split: Splitter, signs: str) -> dict[int, Sequence[Tokens]]:
    """Number → sentences, of the texts that are not one sentence just as they are."""
    numbers: Iterable[int] = range(len(texts))
    if texts and {str}.issuperset(map(type, texts)):
        (ids,) = encoded(texts)
        is_sign = np.zeros(0x3002, dtype=bool)
        is_sign[[*_SPACES, *map(ord, signs)]] = True
        places = np.flatnonzero(is_sign[np.minimum(ids, 0x3001)])
        # A text without a character has no sentence, and is changed too.
        starts = offsets(texts)
        found = np.concatenate([np.searchsorted(starts, places, side="right") - 1, np.flatnonzero(np.diff(starts) == 0)])
        numbers = np.unique(found).tolist()
    cut = ((number, texts[number], split(texts[number])) for number in numbers)
    return {number: sentences for number, text, sentences in cut if list(sentences) != [text]}
