"""Records with a question and its answer, by several names of the keys (BELLE's evaluation set, huatuo-26M-Lite and others)."""

from __future__ import annotations

from typing import Any

from medchatzh.ingest.formats.registry import form
from medchatzh.ingest.turns import Unusable, exchange, text_of
from medchatzh.records import Dialogue

_QUESTIONS = ("question", "query")
_ANSWERS = ("answer", "std_answer", "response")
_CATEGORIES = ("category", "class", "label", "department")


@form("question_answer", *({q, a} for q in _QUESTIONS for a in _ANSWERS), *({key} for key in (*_QUESTIONS, *_ANSWERS)))
def convert(record: dict[str, Any]) -> Dialogue:
    question, answer, category = (_first(record, keys) for keys in (_QUESTIONS, _ANSWERS, _CATEGORIES))
    return exchange(question, answer, category)


@form("multiple_choice", {"question", "A", "B", "C", "D"})
def refuse(record: dict[str, Any]) -> Dialogue:
    """C-Eval's items have `question` and `answer` too, but the answer is a letter."""
    raise Unusable("multiple_choice", "an exam's item with options A to D, not a dialogue")


def _first(record: dict[str, Any], keys: tuple[str, ...]) -> str:
    return next(filter(None, (text_of(record.get(key), key) for key in keys)), "")
