"""ROUGE-1, ROUGE-2, ROUGE-L with the arithmetic of Google's rouge-score: clipped counts, F1, the best reference counts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from medchatzh.metrics.signature import signature, version

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

_KINDS = {"ROUGE-1": "rouge1", "ROUGE-2": "rouge2", "ROUGE-L": "rougeL"}


class _Given:
    """Hands tokens through. rouge-score's own tokenizer keeps [a-z0-9] only: two equal Chinese strings would score 0."""

    def tokenize(self, tokens: Sequence[str]) -> Sequence[str]:
        return tokens


class Rouge:
    """ROUGE F1 (Lin 2004), by kind the maximum over references; the longest common subsequence is of whole texts.

    About 5 ms a reference of 155 characters, nearly all of it the table of the subsequence, in plain Python.
    """

    names = tuple(_KINDS)

    @cached_property
    def _scorer(self) -> RougeScorer:
        from rouge_score.rouge_scorer import RougeScorer

        return RougeScorer(list(_KINDS.values()), tokenizer=_Given())

    def score(self, hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        if not references:
            raise ValueError("ROUGE needs at least one reference")
        best = self._scorer.score_multi(references, hypothesis)
        return {name: 100.0 * float(best[kind].fmeasure) for name, kind in _KINDS.items()}

    def signature(self, references: str) -> str:
        shared = {"refs": references, "agg": "mean", "v": version("rouge-score")}
        return signature("ROUGE", lvl="sentence", f="1", multi="max", tok="char", ws="drop", **shared)
