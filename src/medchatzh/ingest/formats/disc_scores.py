"""DISC-MedLLM's evaluation: one file a model over the same clinical cases, each dialogue with four GPT-4 scores of 1 to 5.

In each case a simulated patient opens with the same complaint, then follows whatever the model says, so the dialogues differ after the
first turn and so do the patient's turns. The scores judge the doctor over the whole dialogue. Hence one ranking a case: the prompt is
the shared complaint; a model's answer is all its doctor turns, joined by blank lines, since a single turn did not earn the score;
the patient's later turns are left out, for they are no part of an answer. Ranks go by the sum of the four scores; equal sums are ties.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from medchatzh.ingest.files import Part
from medchatzh.ingest.formats.preferences import preference
from medchatzh.ingest.formats.registry import Form, Found, Piece, Sample, converted, read_records, reader
from medchatzh.ingest.source import Source
from medchatzh.ingest.turns import Unusable, normalize_turns
from medchatzh.records import Preference, Record, Role

_KEYS = frozenset({"id", "model", "scores", "prompt"})
_NUM_SCORES = 4
_SCORE = re.compile(r"^[^:：\n]+[:：]\s*([1-5])\s*$", re.MULTILINE)
_DIALOGUE = re.compile(r"\[start of conversation\]\n(.*?)\n?\[end of conversation\]", re.DOTALL)
_SPEAKER = re.compile(r"^(patient|doctor):", re.MULTILINE)


class Judged(NamedTuple):
    """One model's dialogue on a case."""

    case: str
    complaint: str
    answer: str
    total: int


def sniff(sample: Sample) -> bool:
    return isinstance(sample.first, dict) and sample.first.keys() >= _KEYS and "[start of conversation]" in str(sample.first["prompt"])


def judged(record: dict[str, Any]) -> Judged:
    """Raises Unusable where the scores or the dialogue are not in the known form."""
    scores = _SCORE.findall(str(record["scores"]))
    match = _DIALOGUE.search(str(record["prompt"]))
    if len(scores) != _NUM_SCORES or not match:
        raise Unusable("unknown_format", f"{len(scores)} scores of 1 to 5, expected {_NUM_SCORES}, or no dialogue in the prompt")
    _, *pieces = _SPEAKER.split(match[1])
    turns = [(speaker, content.strip()) for speaker, content in zip(pieces[::2], pieces[1::2], strict=True)]
    complaint = turns[0][1] if turns and turns[0][0] == "patient" else ""
    answer = "\n\n".join(content for speaker, content in turns if speaker == "doctor" and content)
    if not complaint:
        raise Unusable("missing_question", "the dialogue does not begin with the patient")
    if not answer:
        raise Unusable("missing_answer", "no turn of the doctor has text")
    return Judged(str(record["id"]), complaint, answer, sum(map(int, scores)))


def merge(pieces: Sequence[Piece]) -> Iterator[tuple[str, int, Record]]:
    """One row a case (same id and complaint), placed at the first line that told of it. Holds all dialogues in memory."""
    cases: dict[tuple[str, str], list[Piece]] = {}
    for piece in pieces:
        cases.setdefault((piece.value.case, piece.value.complaint), []).append(piece)
    for same in cases.values():
        yield same[0].name, same[0].line, converted(ranking, [piece.value for piece in same])


@reader("disc_scores", sniff, merge)
def read(part: Part, source: Source) -> Iterator[Found]:
    """A `Judged` for each line that can be used, a Reject for each other."""
    return read_records(part, {"disc_scores": Form("disc_scores", (_KEYS,), judged)})


def ranking(answers: Sequence[Judged]) -> Preference:
    """Rank 1 for the highest sum; an answer's rank is one more than the number of better ones."""
    user: Role = "user"
    prompt, _ = normalize_turns([(user, answers[0].complaint)], answered=False)
    ranked = [(one.answer, 1 + sum(other.total > one.total for other in answers)) for one in answers]
    return preference(prompt, ranked, group=answers[0].case)
