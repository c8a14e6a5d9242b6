"""What the training mix knows of a benchmark: the record that `curate.overlap` writes for each question, and tables over it.

A question is clean where no training text equals, contains or resembles it or its answer. A score on the clean part beside the whole says
what the overlap may be worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from medchatzh.records import Record, read

KINDS = ("exact", "contained", "near")
"""How a training text gives a question away, the surest first."""
FILE = "overlaps.jsonl"


class Overlap(Record, frozen=True, kw_only=True):
    """One benchmark question (`id`) against all of the training mix."""

    kind: str = ""
    """One of `KINDS`; '' for a clean question."""
    side: str = ""
    """What was found: the `question`, or an `answer` of its own."""
    share: float = 0.0
    """Contained: the share of its n-grams that one training text holds; near: the Jaccard similarity; exact: 1."""
    witness: str = ""
    """Id of the training record that was found."""
    question_share: float = 0.0
    """Of the question's n-grams, those that stand anywhere in the users' turns; 0 where it is too short to have enough."""
    answer_share: float = 0.0
    """The same for its answers in the assistants' turns, the largest."""

    @property
    def is_clean(self) -> bool:
        return not self.kind


class CategoryOverlap(msgspec.Struct, frozen=True, kw_only=True):
    """The overlap of one category: num_questions = num_clean + exact + contained + near."""

    category: str
    num_questions: int
    num_clean: int
    exact: int
    contained: int
    near: int
    question_share: float
    """Mean over the questions."""
    answer_share: float


def read_overlaps(folder: Path) -> dict[str, Overlap]:
    """Question id → its overlap. ValueError where the folder holds none."""
    return {overlap.id: overlap for overlap in read(folder / FILE, Overlap)}


def by_category(overlaps: Iterable[Overlap]) -> Iterator[CategoryOverlap]:
    """First all questions (`category` is ''), then each category, the largest first."""
    groups: dict[str, list[Overlap]] = {}
    everything = list(overlaps)
    for overlap in everything:
        groups.setdefault(overlap.category, []).append(overlap)
    yield _counted("", everything)
    for category, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        if category:
            yield _counted(category, members)


def _counted(category: str, overlaps: list[Overlap]) -> CategoryOverlap:
    counts = {kind: sum(overlap.kind == kind for overlap in overlaps) for kind in KINDS}
    size = max(1, len(overlaps))
    return CategoryOverlap(
        category=category,
        num_questions=len(overlaps),
        num_clean=len(overlaps) - sum(counts.values()),
        question_share=round(sum(overlap.question_share for overlap in overlaps) / size, 4),
        answer_share=round(sum(overlap.answer_share for overlap in overlaps) / size, 4),
        **counts,
    )
