"""Contamination: what the training mix still knows of each benchmark question, looked for from the benchmark's side.

Decontamination drops records; this says of every question whether any training text, after all stages, equals, contains or resembles it or
its answer, by thresholds of its own, which are lower. One pass over the mix in one process: 25 µs a record against 700 questions, 65
against 6,337, 200 against 63,255 (which take 1.1 GB).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from medchatzh.contamination import FILE, by_category
from medchatzh.recipe import Settings
from medchatzh.records import Question, read, write
from medchatzh.run import Context, Result

VERSION = 1
LIBRARIES = ("numba", "numpy")


class Config(Settings, frozen=True, kw_only=True):
    """When a benchmark question counts as known to the training mix."""

    gram_chars: int = 13
    """Length of the n-grams in characters, as in decontamination."""
    min_grams: int = 8
    """A text with fewer n-grams (under 20 characters) is compared for equality and nearness only."""
    min_share: float = 0.5
    """A question or answer is contained where one training text holds so much of its n-grams. Of 700 questions against 33,706 records that
    decontamination had passed, read by eye: from .5 on (48) most share whole statements, between .4 and .5 (67) half a stock ending."""
    min_similarity: float = 0.6
    """And near where its five-character shingles have this Jaccard similarity with those of one training text."""
    min_answer_chars: int = 20
    """Shorter answers (`多喝水，注意休息。`) meet by chance and are not looked for."""
    min_line_chars: int = 8
    """A line of a user's turn (title and body are joined by a line break) is looked at for itself from this length on."""

    def __post_init__(self) -> None:
        if self.gram_chars < 2 or self.min_grams < 1:
            raise ValueError("overlap: gram_chars must be at least 2, min_grams at least 1")
        if not 0 < self.min_share <= 1 or not 0.2 <= self.min_similarity <= 1:
            raise ValueError("overlap: write min_share in (0, 1] and min_similarity in [0.2, 1]")


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: Context) -> Result:
    """`ingest/questions.jsonl` against `mix/train.jsonl` → `overlaps.jsonl`, one record for each question id."""
    from medchatzh.curate.leaks import find

    asked: dict[str, Question] = {}
    for question in read(inputs["ingest"] / "questions.jsonl", Question):
        asked.setdefault(question.id, question)
    overlaps = list(find(list(asked.values()), inputs["mix"] / "train.jsonl", config))
    write(out / FILE, overlaps)
    facts = {"by_category": [msgspec.to_builtins(row) for row in by_category(overlaps)]}
    return Result(num_in=len(overlaps), num_out=len(overlaps), facts=facts)
