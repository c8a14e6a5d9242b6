"""Multiple-choice exams: their questions, `exam.json`, and the statistics of shares of right answers.

A share has Wilson's interval (1927), which stays within 0 and 1 and covers what it says for few questions too. The mean over subjects
(macro) has the interval that follows from those of its parts (Zou and Donner 2008). Two systems are compared on the questions that both
answered by McNemar's exact test: under the null hypothesis a question that one alone answers right is as likely the other's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import comb, sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

import msgspec

from medchatzh.metrics.statistics import Interval, Verdict, holm, verdict
from medchatzh.records import Record

FILE = "exam.json"
LETTERS = "ABCDEFGH"
EXAMPLES = ("dev", "train")
"""Splits whose questions are shown as examples and never asked, the better one first."""


class Item(Record, frozen=True, kw_only=True):
    """A question of an exam. `category` is its subject, `id` is `<exam>:<subject>/<split>/<number>`, and the number the exam's own."""

    split: str
    style: str
    """Whose words ask it, `exam.STYLES`."""
    question: str
    options: dict[str, str]
    """Letter → text, two or more, in the order of print."""
    answer: str = ""
    """The right letter; '' where the exam keeps it to itself."""

    @property
    def number(self) -> str:
        return self.id.rpartition("/")[2]


class Answer(Record, frozen=True, kw_only=True):
    """A system's choice. `category` is the subject."""

    system: str
    setting: str
    split: str
    chosen: str
    right: bool | None
    """None where the exam keeps the answer to itself."""
    num_shots: int = 0
    """Examples that the question really had."""
    scores: dict[str, float] = msgspec.field(default_factory=dict)
    """Option → its log-likelihood (natural; of a text, by character). A floor has none."""

    @classmethod
    def to(cls, item: Item, system: str, setting: str, chosen: str, **more: Any) -> Answer:
        """The choice of a question's option."""
        place = {name: getattr(item, name) for name in Record.__struct_fields__}
        right = chosen == item.answer if item.answer else None
        return cls(**place, system=system, setting=setting, split=item.split, chosen=chosen, right=right, **more)


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """The share of right answers and its interval."""

    system: str
    setting: str
    exam: str
    subject: str
    """`micro`: of all questions alike; `macro`: the mean of the subjects, each weighing the same."""
    num_right: int
    n: int
    mean: float
    low: float
    high: float


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """The main system's share of right answers less another's, on the questions that both answered."""

    main: str
    other: str
    setting: str
    exam: str
    n: int
    only_main: int
    """Questions that the main system alone has right."""
    only_other: int
    mean: float
    low: float
    high: float
    p_value: float
    p_holm: float
    """Corrected for all comparisons of the file."""
    verdict: Verdict


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an exam's questions: asked = scorable + those without a published answer."""

    exam: str
    subjects: tuple[str, ...]
    splits: tuple[str, ...]
    num_questions: int
    num_scorable: int
    num_examples: int
    chance: float
    """The share that guessing gets right on average, of the scorable ones."""


class ExamSummary(msgspec.Struct, frozen=True, kw_only=True):
    """`exam.json`."""

    main: str
    systems: tuple[str, ...]
    floors: tuple[str, ...]
    """Those of `systems` that read no question."""
    settings: tuple[str, ...]
    """`letter, 5 shots`: what is scored, after how many examples."""
    signatures: dict[str, dict[str, str]]
    """Exam → setting → how its numbers were made."""
    exams: tuple[Asked, ...]
    accuracies: tuple[Accuracy, ...]
    """By exam, subject (`micro` and `macro` first), system and setting ('' of a floor)."""
    differences: tuple[Paired, ...]
    unanswered: dict[str, int]
    """`system, setting` → questions that had no place in the model's context."""
    confidence: float


def load(path: Path) -> ExamSummary:
    """Read an `exam.json`; ValueError where it is missing or another version's."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ExamSummary)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run the exam first") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: not an exam's summary: {error}; run the exam again") from None


def wilson(num_right: int, n: int, confidence: float = 0.95) -> Interval:
    """The share of `num_right` in `n` and its interval. ValueError where n is 0."""
    if not n:
        raise ValueError("a share needs at least one question")
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), num_right / n
    middle, reach = share + z * z / (2 * n), z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = (middle - reach) / scale if num_right else 0.0  # both ends are exact there, but for rounding
    high = (middle + reach) / scale if num_right < n else 1.0
    return Interval(share, low, high, n)


def macro(parts: Sequence[Interval]) -> Interval:
    """The mean of independent shares, each weighing the same."""
    mean = sum(part.mean for part in parts) / len(parts)
    down = sqrt(sum((part.mean - part.low) ** 2 for part in parts)) / len(parts)
    up = sqrt(sum((part.high - part.mean) ** 2 for part in parts)) / len(parts)
    return Interval(mean, mean - down, mean + up, sum(part.n for part in parts))


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided exact p value: twice the chance that a fair coin falls at least so unevenly."""
    n, fewer = only_first + only_second, min(only_first, only_second)
    return min(1.0, 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n)


def paired_interval(only_first: int, only_second: int, n: int, confidence: float = 0.95) -> Interval:
    """The difference of two shares of the same n questions, from the counts of those on which they differ.

    Wald's with half a question more in each of the four cells (Agresti and Min 2005), which covers about what it says for few questions
    too; that draws the interval towards 0, the mean is as it was counted.
    """
    if not n:
        raise ValueError("a difference needs at least one question that both answered")
    first, second, total = only_first + 0.5, only_second + 0.5, n + 2
    middle = (first - second) / total
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * sqrt(first + second - (first - second) ** 2 / total) / total
    return Interval((only_first - only_second) / n, max(-1.0, middle - reach), min(1.0, middle + reach), n)


Graded = dict[tuple[str, str], dict[str, Answer]]
"""(system, setting; '' of a floor) → question id → answer, where the right one is known."""


def about(exam: str, items: Sequence[Item], num_examples: int) -> Asked:
    """What an exam's questions are."""
    chances = [1 / len(item.options) for item in items if item.answer]
    return Asked(
        exam=exam,
        subjects=tuple(dict.fromkeys(item.category for item in items)),
        splits=tuple(dict.fromkeys(item.split for item in items)),
        num_questions=len(items),
        num_scorable=len(chances),
        num_examples=num_examples,
        chance=sum(chances) / len(chances) if chances else 0.0,
    )


def accuracies(exam: str, items: Sequence[Item], graded: Graded, confidence: float = 0.95) -> list[Accuracy]:
    """Of all subjects together (`micro`, `macro`), then of each; the rows in the order of `graded`."""
    subject_of = {item.id: item.category for item in items}
    found: dict[str, list[Accuracy]] = {subject: [] for subject in ("micro", "macro", *subject_of.values())}
    for (system, setting), answers in graded.items():
        counts = {subject: Counter[bool]() for subject in subject_of.values()}
        for number, answer in answers.items():
            if number in subject_of:
                counts[subject_of[number]][bool(answer.right)] += 1
        parts = {subject: wilson(count[True], count.total(), confidence) for subject, count in counts.items() if count}
        if not parts:
            continue
        num_right = {subject: counts[subject][True] for subject in parts}
        num_right["micro"] = num_right["macro"] = sum(num_right.values())
        whole = macro([*parts.values()])
        for subject, share in {"micro": wilson(num_right["micro"], whole.n, confidence), "macro": whole, **parts}.items():
            row = Accuracy(system=system, setting=setting, exam=exam, subject=subject, num_right=num_right[subject], **share._asdict())
            found[subject].append(row)
    return [row for rows in found.values() for row in rows]


def differences(exams: Mapping[str, Sequence[Item]], graded: Graded, main: str, confidence: float = 0.95) -> list[Paired]:
    """The main system against every other one in the same setting, and against the floors; by exam, over all its subjects."""
    rows = []
    for exam, items in exams.items():
        for (system, setting), first in graded.items():
            if system != main:
                continue
            for (other, same), second in graded.items():
                pairs = [(first[item.id].right, second[item.id].right) for item in items if item.id in first and item.id in second]
                if other == main or same not in (setting, "") or not pairs:
                    continue
                only_main, only_other = pairs.count((True, False)), pairs.count((False, True))
                interval = paired_interval(only_main, only_other, len(pairs), confidence)
                row = Paired(
                    main=main,
                    other=other,
                    setting=setting,
                    exam=exam,
                    only_main=only_main,
                    only_other=only_other,
                    p_value=mcnemar(only_main, only_other),
                    p_holm=1.0,
                    verdict="not distinguishable",
                    **interval._asdict(),
                )
                rows.append(row)
    corrected = holm([row.p_value for row in rows])
    return [
        msgspec.structs.replace(row, p_holm=p_holm, verdict=verdict(Interval(row.mean, row.low, row.high, row.n), p_holm, confidence))
        for row, p_holm in zip(rows, corrected, strict=True)
    ]
