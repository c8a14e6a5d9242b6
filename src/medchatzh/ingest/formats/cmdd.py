"""CMDD, doctors' talks with parents: one JSON file a dialogue, {"dialogue-content": [{"speaker": "患者" | "医生", "sentence"}]}."""

from __future__ import annotations

from typing import Any

from medchatzh.ingest.formats.registry import form
from medchatzh.ingest.turns import dialogue, utterances
from medchatzh.records import Dialogue


@form("cmdd", {"dialogue-content"})
def convert(record: dict[str, Any]) -> Dialogue:
    """Every dialogue of the corpus begins with the doctor; those turns go, and several sentences by one speaker are joined."""
    return dialogue(utterances(record["dialogue-content"], "dialogue-content", "speaker", "sentence"))
