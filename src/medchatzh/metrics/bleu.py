"""BLEU and Google's GLEU with NLTK's arithmetic, the one the paper names (3.8.1; equal in 3.10.4 on all cases tried)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from medchatzh.metrics.signature import signature, version

SMOOTHINGS = ("none", *(f"method{number}" for number in range(1, 8)))
"""NLTK's names for the methods of Chen and Cherry (WMT 2014, W14-3346)."""

_ORDERS = (1, 2, 3, 4)
# 1/n exactly: the common (.33, .33, .33) gives .605 where (1/3, 1/3, 1/3) gives .603.
_WEIGHTS = [tuple([1 / order] * order) for order in _ORDERS]


class Bleu:
    """Cumulative sentence BLEU-1..4 (Papineni et al. 2002) over tokens, several references clipped together.

    All orders come from one call, 2.3 times as fast as four. Methods 5 to 7 look at neighbouring orders, and so see the true
    precision of order n+1, where a call an order would hand them that of order 5. Methods 5 and 7 can exceed 100.
    Unsmoothed, an order without a match leaves a value such as 1e-153, not 0.
    """

    names = tuple(f"BLEU-{order}" for order in _ORDERS)

    def __init__(self, smoothing: str = "none") -> None:
        if smoothing not in SMOOTHINGS:
            raise ValueError(f"unknown BLEU smoothing {smoothing!r}; known: {', '.join(SMOOTHINGS)}")
        self.smoothing = smoothing

    def score(self, hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

        if not references:
            raise ValueError("BLEU needs at least one reference")
        methods = SmoothingFunction()
        method = methods.method0 if self.smoothing == "none" else getattr(methods, self.smoothing)
        with warnings.catch_warnings():
            # NLTK warns once a process and order about each sentence that misses an order: nothing to act on.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"nltk\.translate\.bleu_score")
            try:
                values = sentence_bleu(references, hypothesis, weights=_WEIGHTS, smoothing_function=method)
            except AssertionError:
                # Method 6 extrapolates from p1 and p2 and refuses a sentence without a common trigram: that one stays unsmoothed.
                values = sentence_bleu(references, hypothesis, weights=_WEIGHTS)
        return {name: 100.0 * value for name, value in zip(self.names, values, strict=True)}

    def signature(self, references: str) -> str:
        shared = {"refs": references, "agg": "mean", "v": version("nltk")}
        return signature("BLEU", lvl="sentence", w="cum", tok="char", ws="drop", smooth=self.smoothing, **shared)


class Gleu:
    """Google's sentence GLEU (Wu et al. 2016, section 5.2), n-grams of 1 to 4.

    The paper cites Mutton et al. 2007, another measure of the same name; NLTK's `gleu_score`, which it used, is Google's.
    """

    names = ("GLEU",)

    def score(self, hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        from nltk.translate.gleu_score import sentence_gleu

        if not references:
            raise ValueError("GLEU needs at least one reference")
        return {"GLEU": 100.0 * sentence_gleu(references, hypothesis)}

    def signature(self, references: str) -> str:
        shared = {"refs": references, "agg": "mean", "v": version("nltk")}
        return signature("GLEU", kind="google", lvl="sentence", n="1-4", tok="char", ws="drop", **shared)
