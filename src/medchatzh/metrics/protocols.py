"""Which answers count as references: the choice that moves every number most."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from medchatzh.metrics.segment import characters
from medchatzh.records import Question


class Protocol(msgspec.Struct, frozen=True):
    """A way to score a benchmark. `distractors`: the sampled answers count as references too."""

    name: str
    distractors: bool
    why: str

    def references(self, question: Question) -> tuple[str, ...]:
        """The texts to score against, empty ones left out, in the benchmark's order."""
        texts = question.references + (question.distractors if self.distractors else ())
        return tuple(text for text in texts if characters(text))

    def signature(self, questions: Iterable[Question]) -> str:
        """The `refs:` part: how many references a question has, and of which kind: `1(pos)`, `4-5(pos+neg)`."""
        counts = {len(self.references(question)) for question in questions}
        number = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)}-{max(counts)}"
        return f"{number}({'pos+neg' if self.distractors else 'pos'})"


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("strict", False, "the question's own answers (label 1) are the references"),
        Protocol("medchatzh", True, "the own answers and the four sampled from other questions are all references"),
    )
}
"""Protocols by name.

webMedQA gives each question one real answer and four drawn at random from other questions. Against all five, the answer to a
*different* question scores BLEU-1 58.5, GLEU 12.0, ROUGE-L 18.9 on 700 real questions in that layout (characters, NLTK, mean
over items), where the paper's best row reports 56.3, 10.3, 21.8; against the real answer alone it scores 25.0, 8.3, 14.2.
The paper's new rows therefore look like five-reference scores, beside copied rows that fit a single reference. So `strict`
is what tells systems apart, and `medchatzh` is there to be compared with the paper.
"""
