"""Lists of turns: ShareGPT's {"conversations": [{"from", "value"}]} and OpenAI's {"messages": [{"role", "content"}]}."""

from __future__ import annotations

from typing import Any

from medchatzh.ingest.formats.registry import form
from medchatzh.ingest.turns import dialogue, text_of, utterances
from medchatzh.records import Dialogue


@form("sharegpt", {"conversations"})
def sharegpt(record: dict[str, Any]) -> Dialogue:
    return _convert(record, "conversations")


@form("messages", {"messages"})
def messages(record: dict[str, Any]) -> Dialogue:
    return _convert(record, "messages")


def _convert(record: dict[str, Any], key: str) -> Dialogue:
    system = text_of(record.get("system"), "system")
    return dialogue([("system", system), *utterances(record[key], key)] if system else utterances(record[key], key), _category(record))


def _category(record: dict[str, Any]) -> str:
    return text_of(record.get("category"), "category")
