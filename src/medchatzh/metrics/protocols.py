"""How the field scores answers, by name: which answers count as references, in which tokens, with whose arithmetic.

The choice of references moves every number most. webMedQA gives each question one real answer and four drawn at random from other
questions. Against all five, the answer to a *different* question scores BLEU-1 58.5, GLEU 12.0, ROUGE-L 18.9 on 700 real questions in that
layout (characters, NLTK, mean over items), where the paper's best row reports 56.3, 10.3, 21.8; against the real answer alone it scores
25.0, 8.3, 14.2. The paper's new rows therefore look like five-reference scores, beside copied rows that fit a single reference. So
`strict` is what tells systems apart, and `medchatzh` is there to be compared with the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np

from medchatzh.metrics.batch import Batch
from medchatzh.metrics.bleu import Bleu
from medchatzh.metrics.counts import Floats, worth_compiling
from medchatzh.metrics.gleu import Gleu
from medchatzh.metrics.metric import Metric
from medchatzh.metrics.rouge import Rouge
from medchatzh.metrics.segment import WORDS, Segmenter, characters
from medchatzh.records import Question

# Answers counted at a time: a few MB of numbers, whatever the size of the benchmark.
_CHUNK = 4096


class Protocol(msgspec.Struct, frozen=True, kw_only=True):
    """A way to score a benchmark. `metrics` are the paper's eight numbers: BLEU-1..4, GLEU, ROUGE-1/2/L."""

    name: str
    why: str
    """What it is, who uses it, and how sure that is."""
    distractors: bool = False
    """The sampled answers count as references too."""
    bleu: Bleu = Bleu()
    gleu: Gleu = Gleu()
    rouge: Rouge = Rouge()
    smoothing_is_open: bool = False
    """Nobody states BLEU's smoothing: it may be chosen (`smoothed`)."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self.bleu, self.gleu, self.rouge

    @property
    def counts_words(self) -> bool:
        """Whether it needs jieba (the extra `words`)."""
        return any(metric.segmenter.unit == "jieba" for metric in self.metrics)

    @property
    def names(self) -> tuple[str, ...]:
        """The numbers of `scores`, in the order of print."""
        return tuple(name for metric in self.metrics for name in metric.names)

    def smoothed(self, method: str) -> Protocol:
        """With that smoothing of BLEU, where the protocol leaves it open."""
        return msgspec.structs.replace(self, bleu=msgspec.structs.replace(self.bleu, smoothing=method)) if self.smoothing_is_open else self

    def references(self, question: Question) -> tuple[str, ...]:
        """The texts to score against, empty ones left out, in the benchmark's order."""
        texts = question.references + (question.distractors if self.distractors else ())
        return tuple(text for text in texts if characters(text))

    def signature(self, questions: Iterable[Question]) -> str:
        """The `refs:` part: how many references a question has, and of which kind: `1(pos)`, `4-5(pos+neg)`."""
        counts = {len(self.references(question)) for question in questions}
        number = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)}-{max(counts)}"
        return f"{number}({'pos+neg' if self.distractors else 'pos'})"

    def signatures(self, questions: Iterable[Question]) -> dict[str, str]:
        """Name → signature of what `scores` gives."""
        references = self.signature(questions)
        return {name: metric.signature(references) for metric in self.metrics for name in metric.names}

    def scores(
        self,
        answers: Sequence[str],
        references: Sequence[Sequence[str]],
        *,
        compiled: bool | None = None,
        advance: Callable[[int], object] = lambda done: None,
    ) -> Floats:
        """(n, 8) on a 0 to 100 scale: `names`, an answer a row. ValueError where an answer has no reference.

        `compiled` as in `counts.count`; `advance` hears how many answers are done.
        """
        if compiled is None:
            compiled = worth_compiling(sum(map(len, answers)) + sum(len(text) for group in references for text in group))
        parts = []
        for start in range(0, len(answers), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            parts.append(self._scores(answers[chunk], references[chunk], compiled))
            advance(len(parts[-1]))
        return np.concatenate(parts) if parts else np.empty((0, len(self.names)))

    def _scores(self, answers: Sequence[str], references: Sequence[Sequence[str]], compiled: bool) -> Floats:
        segmenters = {metric.segmenter for metric in self.metrics}
        batches = {segmenter: Batch.of(answers, references, segmenter, compiled, self.rouge.counts_sets) for segmenter in segmenters}
        return np.hstack([metric.scores(batches[metric.segmenter]) for metric in self.metrics])


_KEPT = Segmenter(spaces="keep")

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="strict",
            why="the question's own answers (label 1) are the references; characters, NLTK's BLEU and GLEU, Google's ROUGE",
            smoothing_is_open=True,
        ),
        Protocol(
            name="medchatzh",
            why="the own answers and the four sampled from other questions are all references, the best counts; characters, NLTK, "
            "pltrdy's ROUGE: not stated in the paper, but what its imports and its table fit best",
            distractors=True,
            rouge=Rouge(library="rouge"),
            smoothing_is_open=True,
        ),
        Protocol(
            name="huatuogpt-char",
            why="own answers, NLTK's BLEU and GLEU, ROUGE averaged: HuatuoGPT's code is not published; its tokens are characters or words",
            rouge=Rouge(library="rouge", aggregate="mean"),
        ),
        Protocol(
            name="huatuogpt-jieba",
            why="as huatuogpt-char, in jieba's words",
            bleu=Bleu(segmenter=WORDS),
            gleu=Gleu(segmenter=WORDS),
            rouge=Rouge(library="rouge", aggregate="mean", segmenter=WORDS),
        ),
        Protocol(
            name="llamafactory",
            why="own answers; as LLaMA-Factory's ComputeSimilarity (PromptCBLUE's alike): BLEU-4 of characters, white space among them, "
            "with method 3; rouge-chinese of jieba's words. It prints no GLEU and no BLEU-1..3, and rounds each item to 4 decimals",
            bleu=Bleu(segmenter=_KEPT, smoothing="method3"),
            gleu=Gleu(segmenter=_KEPT),
            rouge=Rouge(library="rouge-chinese", segmenter=Segmenter("jieba", "keep")),
        ),
    )
}
"""Protocols by name; the first is the default's first."""
