"""Personal data (the paper, data section: e-mail addresses and telephone numbers, found by regular expressions)."""

from __future__ import annotations

from medchatzh.curate.privacy import find
from medchatzh.curate.rules.registry import PERSONAL, Case, Seen, rule


@rule(PERSONAL, gate=lambda features, _: features.personal)
def personal_data(case: Case) -> Seen | None:
    """Some turn holds personal data of the kinds that count. The detail names the kinds, never the values."""
    found = [(place, finding) for place, turn in enumerate(case.dialogue.turns) for finding in find(turn.content, case.personal_kinds)]
    if not found:
        return None
    place, first = found[0]
    return Seen(",".join(dict.fromkeys(finding.kind for _, finding in found)), place, first.start, first.end)
