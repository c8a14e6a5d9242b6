"""The floors that any model must beat, and what people reach: answers that cost no model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from medchatzh.records import Dialogue, Question
from medchatzh.run import Progress


def random_answers(questions: Sequence[Question], answers: Sequence[str], seed: int) -> Iterator[str]:
    """A random training answer a question, drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(len(answers), size=len(questions))
    return (answers[number] for number in drawn)


def answers_of_others(questions: Sequence[Question], seed: int) -> list[str | None]:
    """An answer of another question for each, where there are no training answers to draw from; None where no other has one."""
    order = np.random.default_rng(seed).permutation(len(questions))
    given: list[str | None] = [None] * len(questions)
    for place, number in enumerate(order):
        own = questions[number]
        # the next on a circle, so that each is given about once; but never one that it would be scored against
        ahead = (questions[order[(place + step) % len(order)]] for step in range(1, len(order)))
        answers = (other.references[0] for other in ahead if other.id != own.id and other.references)
        given[number] = next((answer for answer in answers if answer not in (*own.references, *own.distractors)), None)
    return given


def retrieved_answers(questions: Sequence[Question], dialogues: Callable[[], Iterable[Dialogue]]) -> tuple[list[str], list[float]]:
    """(answers, similarities): the first answer of the training dialogue whose first question is nearest to all that the user asked.

    `dialogues` is called three times, so that no more than a block of them is held. 63,255 questions against 800,000 of 89 characters take
    125 s of one core and 540 MB with all that Python needs. ValueError where there is no dialogue.
    """
    from medchatzh.generate.nearest import nearest

    asked = ["\n".join(turn.content for turn in question.turns if turn.role == "user") for question in questions]
    with Progress("retrieved", None, "training questions read") as progress:
        found = nearest(asked, lambda: (dialogue.question for dialogue in progress.over(dialogues())))
    wanted = set(found.places.tolist())
    answers = {place: dialogue.answers[0] for place, dialogue in enumerate(dialogues()) if place in wanted}
    return [answers[place] for place in found.places.tolist()], found.similarities.tolist()


def human_reference(question: Question, seed: int) -> int | None:
    """Which of a question's own answers stands for a human's answer; None where it has less than two, and none would be left to score
    against. By the hash of the id, so that it does not hang on what else is asked."""
    if len(question.references) < 2:
        return None
    digest = hashlib.blake2b(f"{seed} {question.id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % len(question.references)
