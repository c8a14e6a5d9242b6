"""What answers that need no model score on given questions, under each protocol."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from medchatzh.claims.world import Floors, Means
from medchatzh.metrics.protocols import PROTOCOLS, Protocol
from medchatzh.records import Question


def floors(questions: Sequence[Question]) -> dict[str, Floors]:
    """Protocol → floors: one canned sentence, and the answer to another question. Protocols that count words are left out without jieba."""
    from medchatzh.generate import Config

    canned = [Config().canned] * len(questions)
    other = [answer_to_another(questions, place) for place in range(len(questions))]
    found = {}
    for name, protocol in PROTOCOLS.items():
        if protocol.counts_words and find_spec("jieba") is None:
            continue
        num_references = sum(len(protocol.references(question)) for question in questions) / len(questions)
        found[name] = Floors(
            canned=means(questions, canned, protocol), other=means(questions, other, protocol), num_references=num_references
        )
    return found


def answer_to_another(questions: Sequence[Question], place: int) -> str:
    """The answer of the question half the benchmark further on, or after it, that is none of this one's candidates; '' where all are."""
    candidates = {*questions[place].references, *questions[place].distractors}
    start = place + len(questions) // 2
    answers = (questions[number % len(questions)].references[0] for number in range(start, start + len(questions)))
    return next((answer for answer in answers if answer not in candidates), "")


def means(questions: Sequence[Question], answers: Sequence[str], protocol: Protocol) -> Means:
    """The mean of each text metric."""
    values = protocol.scores(answers, [protocol.references(question) for question in questions])
    return dict(zip(protocol.names, values.mean(axis=0).tolist(), strict=True))
