"""The libraries themselves, called as their users call them, and generated cases to compare on.

A case is a hypothesis and its references in tokens: characters as a string, or words as a list.
"""

import random
import warnings
from collections.abc import Sequence
from functools import cache

import numpy as np
import rouge
import rouge_chinese
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu
from nltk.translate.gleu_score import corpus_gleu
from rouge_score.rouge_scorer import RougeScorer

from medchatzh.metrics import Batch
from medchatzh.metrics.segment import Tokens

Case = tuple[Tokens, list[Tokens]]

# Cumulative orders 1 to 4, then each order alone.
WEIGHTS = [(1 / order,) * order for order in (1, 2, 3, 4)] + [tuple(float(at == order) for at in range(4)) for order in range(4)]
LIBRARIES = ("rouge-score", "rouge-chinese", "rouge")

# Few, so that n-grams meet and repeat; with what the libraries cut at, white space, and hanzi beyond 16 bits.
_CHARACTERS = "感冒多喝水药。，.a1？…”𠮷𪚥"
_WORDS = ["感冒", "多喝", "水", "38.5", "。", "......", ".......", "……", "？！", "a.b", "\n", " ", "", "。”", "”", "𠮷野家", "..", "."]


def generate(seed: int, num_cases: int, alphabet: Sequence[str], num_long: int = 0) -> list[Case]:
    """Empty, short and (the last `num_long`) long hypotheses; 1 to 5 references, some copies, parts or shufflings of the hypothesis."""
    rng = random.Random(seed)

    def text(longest: int) -> list[str]:
        some = rng.sample(alphabet, rng.randint(1, len(alphabet)))  # now and then a disjoint part: no overlap
        return rng.choices(some, k=rng.choice((0, 1, 2, 3, 4, 5, 8, longest) if longest <= 20 else (longest // 2, longest)))

    def reference(hypothesis: list[str], longest: int) -> list[str]:
        kind = rng.randrange(6)
        if kind == 0:
            return rng.sample(hypothesis, len(hypothesis))
        if kind == 1:
            return hypothesis[: rng.randint(0, len(hypothesis))] + text(2)
        return list(hypothesis) if kind == 2 else text(longest)

    cases: list[tuple[list[str], list[list[str]]]] = []
    for number in range(num_cases):
        longest = 20 if number < num_cases - num_long else 260
        hypothesis = text(longest)
        cases.append((hypothesis, [reference(hypothesis, longest) for _ in range(rng.randint(1, 5 if longest == 20 else 1))]))
    if isinstance(alphabet, str):
        return [("".join(hypothesis), ["".join(one) for one in references]) for hypothesis, references in cases]
    return list(cases)


GENERATED = {
    "characters": generate(1, 2500, _CHARACTERS, num_long=40),
    "characters and spaces": generate(2, 1000, _CHARACTERS + " \n\u3000"),
    "words": generate(3, 2000, _WORDS, num_long=20),
}
"""5,500 cases, the same every time."""


def batch(cases: Sequence[Case], compiled: bool) -> Batch:
    return Batch([hypothesis for hypothesis, _ in cases], [references for _, references in cases], compiled)


def bleu(cases: Sequence[Case], smoothing: str) -> list[float]:
    """NLTK's BLEU of a corpus (one case: of a sentence) for `WEIGHTS`, in one call. Where method 6 refuses, unsmoothed."""
    hypotheses = [list(hypothesis) for hypothesis, _ in cases]
    references = [[list(one) for one in group] for _, group in cases]
    method = getattr(SmoothingFunction(), "method0" if smoothing == "none" else smoothing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return corpus_bleu(references, hypotheses, WEIGHTS, method)
        except AssertionError:
            return corpus_bleu(references, hypotheses, WEIGHTS)


def gleu(cases: Sequence[Case]) -> float:
    return corpus_gleu([[list(one) for one in group] for _, group in cases], [list(hypothesis) for hypothesis, _ in cases])


class AsTheyAre:
    """rouge-score's own tokenizer drops Chinese."""

    def tokenize(self, tokens: list[str]) -> list[str]:
        return tokens


_GOOGLE = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=AsTheyAre())


def rouge_by_reference(library: str, case: Case) -> np.ndarray:
    """(references, 3, 3): by reference and kind, precision, recall, F. Where the library raises, 0."""
    hypothesis, references = case
    if library == "rouge-score":
        scores = [_GOOGLE.score(list(one), list(hypothesis)) for one in references]
        return np.array([[tuple(score[kind]) for kind in ("rouge1", "rouge2", "rougeL")] for score in scores])
    scorer = (rouge if library == "rouge" else rouge_chinese).Rouge()

    def score(reference: Tokens) -> list[list[float]]:
        try:
            (found,) = scorer.get_scores(" ".join(hypothesis), " ".join(reference))
        except ValueError:
            return [[0.0] * 3] * 3
        return [[found[kind][part] for part in "prf"] for kind in ("rouge-1", "rouge-2", "rouge-l")]

    return np.array([score(one) for one in references])


def best(by_reference: np.ndarray) -> np.ndarray:
    """(3, 3): by kind those of the first reference with the largest F."""
    return np.stack([by_reference[by_reference[:, kind, 2].argmax(), kind] for kind in range(3)])


@cache
def generated_bleu(kind: str, smoothing: str) -> np.ndarray:
    return np.array([bleu([case], smoothing) for case in GENERATED[kind]])


@cache
def generated_rouge(kind: str, library: str) -> list[np.ndarray]:
    return [rouge_by_reference(library, case) for case in GENERATED[kind]]


def assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    """Within 1e-12 of each value, however small: 1e-231 too."""
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)
