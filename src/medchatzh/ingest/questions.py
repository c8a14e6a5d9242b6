"""Dialogues → benchmark questions, for sources with `benchmark = true`: the last exchange is asked for, the turns before it are given."""

from __future__ import annotations

from typing import Any

from medchatzh.ingest.turns import Unusable, text_of
from medchatzh.records import Dialogue, Question, Record


def question_of(record: Record, row: Any = None) -> Question:
    """The item that a dialogue makes. `row`, where it is an object, may give its own `id`, and further answers in the list whose first
    text is the dialogue's answer (huatuo-26M's `answers`).

    Raises Unusable, `not_a_question`, for a record that is no dialogue.
    """
    if isinstance(record, Question):
        return record
    if not isinstance(record, Dialogue):
        raise Unusable("not_a_question", f"a {type(record).__name__.lower()}, of which no question can be made")
    *history, asked, answered = record.turns
    fields = row if isinstance(row, dict) else {}
    return Question(
        id=record.id or _own_id(fields),
        question=asked.content,
        references=_answers(fields, answered.content),
        history=tuple(history),
        category=record.category,
    )


def _own_id(fields: dict[str, Any]) -> str:
    """'' where it has none: then the row's number is taken."""
    value = fields.get("id")
    return str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _answers(fields: dict[str, Any], answer: str) -> tuple[str, ...]:
    for name, value in fields.items():
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            texts = tuple(filter(None, (text_of(item, name) for item in value)))
            if texts[:1] == (answer,):
                return texts
    return (answer,)
