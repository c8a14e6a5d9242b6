"""Rejects of real records that were read and judged. `golden/judged_rejects.jsonl` holds where a record stands and the verdict, no text.

`right`: the record is what the rule says, and belongs dropped; it must stay dropped by that rule. `wrong`: some version of the rule
dropped a sound record; it must be kept now, but for fewer than one in twenty of a rule's judged rejects. For each rule fifty of its
rejects were read, drawn at random, all where there are fewer.
"""

from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import pytest

from medchatzh import records
from medchatzh.curate.rules import Case, GeneralRules, PoolRules, all_rules
from medchatzh.records import Dialogue

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "judged_rejects.jsonl"
LIMITS = {"medical": PoolRules(), "general": GeneralRules(min_answer_chars=100)}  # of the recipe for public data
MAX_WRONG = 0.05


class Judged(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    rule: str
    origin: str
    verdict: str
    row: int = 0
    """Which of the records of this origin (some files hold all in one line)."""


@pytest.fixture(scope="module")
def judged() -> list[Judged]:
    return list(records.read(GOLDEN, Judged))


def test_verdicts_name_rules_and_hold_no_text(judged: list[Judged]) -> None:
    assert {verdict.rule for verdict in judged} <= {rule.name for rule in all_rules()}
    assert {verdict.verdict for verdict in judged} == {"right", "wrong"}
    places = [(verdict.rule, verdict.origin, verdict.row) for verdict in judged]
    assert len(set(places)) == len(places) and all(":" in origin and len(origin) < 80 for _, origin, _ in places)


def test_judged_rejects_are_treated_as_judged(judged: list[Judged], real_dialogues: list[Dialogue]) -> None:
    by_origin: dict[str, list[Dialogue]] = defaultdict(list)
    for dialogue in real_dialogues:
        by_origin[dialogue.origin].append(dialogue)
    find = {rule.name: rule.find for rule in all_rules()}
    kept_though_right, dropped, wrongly = [], Counter[str](), defaultdict(list)
    for verdict in judged:
        dialogue = by_origin[verdict.origin][verdict.row]
        case = Case.of(dialogue, LIMITS[dialogue.pool])
        is_dropped = find[verdict.rule](case) is not None
        dropped[verdict.rule] += is_dropped
        if verdict.verdict == "right" and not is_dropped:
            kept_though_right.append(verdict)
        if verdict.verdict == "wrong" and is_dropped:
            wrongly[verdict.rule].append(verdict.origin)
    assert kept_though_right == []
    assert {rule: origins for rule, origins in wrongly.items() if len(origins) >= MAX_WRONG * dropped[rule]} == {}
