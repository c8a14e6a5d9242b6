"""Med-ChatGLM's records: {"context": "问题：…\\n回答: ", "target": …}, as JSON lines in a .txt file."""

from __future__ import annotations

import re
from typing import Any

from medchatzh.ingest.formats.registry import form
from medchatzh.ingest.turns import exchange, text_of
from medchatzh.records import Dialogue

_START = re.compile(r"\A\s*(?:问题|问)\s*[:：]\s*")
_END = re.compile(r"\n\s*(?:回答|答)\s*[:：]\s*\Z")


@form("context_target", {"context", "target"}, {"context"}, {"target"})
def convert(record: dict[str, Any]) -> Dialogue:
    context = _START.sub("", _END.sub("", text_of(record.get("context"), "context")))
    return exchange(context.strip(), text_of(record.get("target"), "target"), text_of(record.get("category"), "category"))
