"""What curation changes in a record before any rule sees it: repairs, then trimmed courtesy, then masked personal data."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from medchatzh.curate.boilerplate import trim
from medchatzh.curate.config import Config
from medchatzh.curate.privacy import mask_dialogue
from medchatzh.curate.repair import Told, repair
from medchatzh.records import Dialogue, Turn


def mend(original: Dialogue, config: Config, boilerplate: Collection[str], told: Told = lambda name, before, after: None) -> Dialogue:
    """The record as the rules see it, its edits listed; the same object where nothing changes. `told` hears of each edit."""
    record = repair(original, config.repairs, told)

    def edited(name: str, turns: tuple[Turn, ...]) -> Dialogue:
        if turns == record.turns:
            return record
        told(name, record.turns, turns)
        return msgspec.structs.replace(record, turns=turns, edits=(*record.edits, name))

    if config.trim_boilerplate:
        trimmed = (Turn(turn.role, trim(turn.content, boilerplate)) if turn.role == "assistant" else turn for turn in record.turns)
        record = edited("boilerplate", tuple(trimmed))
    if config.masks:
        record = edited("personal_data", mask_dialogue(record, config.kinds(record.pool)).turns)
    return record
