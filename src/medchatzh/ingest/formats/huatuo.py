"""huatuo-26M: {"questions", "answers"}, lists of texts; `questions` may hold lists of paraphrases. CMtMedQA: alpaca with departments."""

from __future__ import annotations

from typing import Any

from medchatzh.ingest.formats import alpaca
from medchatzh.ingest.formats.registry import form
from medchatzh.ingest.turns import Unusable, exchange, first_text, text_of
from medchatzh.records import Dialogue

_CATEGORIES = ("category", "department", "label")


@form("huatuo26m", {"questions", "answers"}, {"questions"}, {"answers"})
def convert(record: dict[str, Any]) -> Dialogue:
    """The first question and answer with text; a single question may stand under `question`. Where the answer is a web address
    (huatuo_consultation_qa has no other) there is none."""
    asked = "questions" if "questions" in record else "question"
    question, answer = (first_text(record.get(key), key) for key in (asked, "answers"))
    if answer.startswith(("http://", "https://")) and not any(map(str.isspace, answer)):
        raise Unusable("missing_answer", "a web address stands for the answer")
    return exchange(question, answer, next(filter(None, (text_of(record.get(key), key) for key in _CATEGORIES)), ""))


@form("cmtmedqa", {"cate1", "cate2", "instruction", "output"}, {"instruct", "output"})
def convert_departments(record: dict[str, Any]) -> Dialogue:
    """CMtMedQA's several turns stand in `history`; `cate1` is the department, `cate2` its part. The last 144 records of its test file
    (questions about superstitions) have `instruct` and `output` only."""
    if "instruct" in record:
        return exchange(text_of(record["instruct"], "instruct"), text_of(record.get("output"), "output"))
    return alpaca.convert({**record, "category": record["cate1"]})
