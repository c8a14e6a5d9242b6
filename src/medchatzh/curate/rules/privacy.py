"""Personal data (the paper, data section: e-mail addresses and telephone numbers, found by regular expressions)."""

from __future__ import annotations

from medchatzh.curate.privacy import find
from medchatzh.curate.rules.registry import PERSONAL, Case, rule


@rule(PERSONAL)
def personal_data(case: Case) -> str | None:
    """Any turn holds personal data. The detail names the kinds, never the values."""
    kinds = {finding.kind: None for turn in case.dialogue.turns for finding in find(turn.content)}
    return ",".join(kinds) or None
