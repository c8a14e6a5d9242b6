"""What answers that need no model score on given questions, under each protocol."""

from __future__ import annotations

from collections.abc import Sequence

from medchatzh.claims.world import Floors, Means
from medchatzh.records import Question


def floors(questions: Sequence[Question]) -> dict[str, Floors]:
    """Protocol → floors: one canned sentence, and the answer to another question."""
    from medchatzh.generate import Config
    from medchatzh.metrics.protocols import PROTOCOLS

    canned = [Config().canned] * len(questions)
    other = [answer_to_another(questions, place) for place in range(len(questions))]
    found = {}
    for name in PROTOCOLS:
        num_references = sum(len(PROTOCOLS[name].references(question)) for question in questions) / len(questions)
        found[name] = Floors(canned=scores(questions, canned, name), other=scores(questions, other, name), num_references=num_references)
    return found


def answer_to_another(questions: Sequence[Question], place: int) -> str:
    """The answer of the question half the benchmark further on, or after it, that is none of this one's candidates; '' where all are."""
    candidates = {*questions[place].references, *questions[place].distractors}
    start = place + len(questions) // 2
    answers = (questions[number % len(questions)].references[0] for number in range(start, start + len(questions)))
    return next((answer for answer in answers if answer not in candidates), "")


def scores(questions: Sequence[Question], answers: Sequence[str], protocol: str) -> Means:
    """The mean of each text metric. The one place where this package meets the metrics."""
    from medchatzh.metrics import text_metrics
    from medchatzh.metrics.protocols import PROTOCOLS
    from medchatzh.metrics.segment import characters

    sums: Means = {}
    for question, answer in zip(questions, answers, strict=True):
        references = [characters(text) for text in PROTOCOLS[protocol].references(question)]
        for metric in text_metrics("none"):
            for name, value in metric.score(characters(answer), references).items():
                sums[name] = sums.get(name, 0.0) + value
    return {name: total / len(questions) for name, total in sums.items()}
