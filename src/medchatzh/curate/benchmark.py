"""Decontamination: records that hold a benchmark's question or its answer must not be trained on.

Instructions and benchmark are crawled from the same sites, so the leak is the rule, not the exception.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from medchatzh.recipe import Settings
from medchatzh.records import Dialogue, Question, normalize

_STRIDE = 4
"""Every fourth n-gram of a benchmark question is indexed: a quarter of the memory, and four shared in a row are always seen."""
_CANDIDATES = 8


class Decontamination(Settings, frozen=True):
    """When a record counts as part of the benchmark. Exact equality of the (normalised) question always does."""

    gram_chars: int = 13
    """Length of the n-grams, in characters. 13 is the usual length for decontamination (GPT-3, appendix C, in words; in Chinese
    characters it is about a clause, shorter grams meet by chance)."""
    min_containment: float = 0.8
    """Share of the shorter question's n-grams that the other must hold. 1.0 leaves exact containment only."""
    min_grams: int = 8
    """Questions with fewer n-grams (under 20 characters) are compared for equality only."""
    min_answer_chars: int = 20
    """An answer equal to a reference counts as a leak from this length on; shorter ones (`多喝水，注意休息。`) meet by chance."""
    min_line_chars: int = 8
    """A line of a user turn (title and body are joined by a line break) that equals a question counts from this length on, in
    characters without punctuation; shorter ones (`怎么办？`) meet by chance. A whole turn always counts."""

    def __post_init__(self) -> None:
        if self.gram_chars < 2 or self.min_grams < 1 or self.min_line_chars < 1:
            raise ValueError("decontamination: gram_chars must be at least 2, min_grams and min_line_chars at least 1")
        if not 0 < self.min_containment <= 1:
            raise ValueError(f"decontamination.min_containment is {self.min_containment}; write a share in (0, 1]")


class Benchmark:
    """An index of benchmark questions: `match(dialogue)` names the one that a record leaks."""

    def __init__(self, questions: Iterable[Question], settings: Decontamination) -> None:
        self._settings = settings
        self._texts: list[tuple[str, str]] = []
        self._by_question: dict[str, str] = {}
        self._by_answer: dict[str, str] = {}
        self._by_gram: dict[str, list[int]] = defaultdict(list)
        for question in questions:
            self._add(question)

    def match(self, dialogue: Dialogue) -> str | None:
        """The id of the benchmark question that one of this record's user turns or answers gives away, or None."""
        if not self._texts:
            return None
        asked = {normalize(turn.content): turn.content for turn in dialogue.turns if turn.role == "user"}
        for text in (*asked, *self._lines(asked.values())):
            if text in self._by_question:
                return self._by_question[text]
        for answer in dialogue.answers:
            if len(answer) >= self._settings.min_answer_chars and (said := normalize(answer)) in self._by_answer:
                return self._by_answer[said]
        return next(filter(None, map(self._contained, asked)), None)

    def _lines(self, texts: Iterable[str]) -> Iterator[str]:
        """The normalised lines of texts of several lines, but for short ones."""
        lines = (normalize(line) for text in texts if "\n" in text for line in text.split("\n"))
        return (line for line in lines if len(line) >= self._settings.min_line_chars)

    def _add(self, question: Question) -> None:
        asked = normalize(question.question)
        if asked:
            self._by_question.setdefault(asked, question.id)
        for reference in question.references:
            said = normalize(reference)
            if len(said) >= self._settings.min_answer_chars:
                self._by_answer.setdefault(said, question.id)
        number = len(self._texts)
        self._texts.append((asked, question.id))
        grams = self._grams(asked)
        if len(grams) >= self._settings.min_grams:
            for gram in dict.fromkeys(grams[::_STRIDE]):
                self._by_gram[gram].append(number)

    def _contained(self, asked: str) -> str | None:
        mine = self._grams(asked)
        if len(mine) < self._settings.min_grams:
            return None
        hits = Counter(number for gram in set(mine) for number in self._by_gram.get(gram, ()))
        if not hits:
            return None
        own = set(mine)
        # Ties by number, so that the answer does not depend on the order of a set.
        for number, _ in sorted(hits.items(), key=lambda hit: (-hit[1], hit[0]))[:_CANDIDATES]:
            text, identifier = self._texts[number]
            theirs = set(self._grams(text))
            if len(own & theirs) >= self._settings.min_containment * min(len(own), len(theirs)):
                return identifier
        return None

    def _grams(self, text: str) -> list[str]:
        width = self._settings.gram_chars
        return [text[start : start + width] for start in range(len(text) - width + 1)]
