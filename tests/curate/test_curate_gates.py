"""Gates: where a rule can fire, its gate is open; and on most real records no gate is."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from medchatzh.curate.batch import Batch
from medchatzh.curate.benchmark import Benchmark, Decontamination
from medchatzh.curate.clean import Cleaner
from medchatzh.curate.config import Config
from medchatzh.curate.features import Features, folded
from medchatzh.curate.rules import Case, GeneralRules, PoolRules, all_rules
from medchatzh.curate.rules.registry import Rule
from medchatzh.records import Dialogue, Turn

RULES = [rule for rule in all_rules() if rule.name != "personal_data"]  # whose gate is tested with its patterns
CLEANER = Cleaner(Config(), Benchmark([], Decontamination()))
BOILERPLATE = frozenset({"祝患者早日恢复", "随时都可以联系客人"})

# What the rules look for, to be strung together.
FRAGMENTS = sorted({sign for rule in RULES for group in rule.groups for sign in group})
WORDS = [
    "感冒", "怎么办？", "多喝水", "。", "，", "、", "\n", "1.", "2.", "4.", "（3）", "③", "如果", "由于天气", "建议", "：", " ", "~",
    "ＡＩ", "ai", "AI", "\ufffd", "鐨", "Ã©", "hello ", "world, ", "ok", "无法", "提供", "作为", "语言模型", "祝您", "好的", "月经",
    "痔疮", "脚气", "我院采用", "奇效", "祝患者早日恢复", "３、", "①，", "mar\u212a", "İ", "？？", "𠮷", "\x1c", "\u3000",
    "对于患者来说", "的", "就", "还", "\uf900", "１．",
]  # fmt: skip
texts = st.lists(st.sampled_from(WORDS) | st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=14).map("".join)
repetitive = st.builds(lambda text, times, rest: text * times + rest, texts, st.integers(1, 6), texts)
turns = st.lists(st.tuples(st.sampled_from(["user", "assistant"]), texts | repetitive), min_size=1, max_size=4)
settings_of = st.builds(
    PoolRules,
    min_answer_chars=st.integers(0, 30),
    max_repeats=st.integers(1, 5),
    echo_overlap=st.floats(0, 1),
    echo_length=st.floats(0, 1),
    min_hanzi_share=st.floats(0, 1),
    max_chat_chars=st.integers(0, 200),
    min_advertising_signs=st.integers(1, 3),
)


def dialogue(*pairs: tuple[str, str]) -> Dialogue:
    return Dialogue(id="t:1", turns=tuple(Turn(role, text) for role, text in pairs))  # type: ignore[arg-type]


def case(record: Dialogue, settings: PoolRules) -> Case:
    return Case.of(record, settings, boilerplate=BOILERPLATE)


def seen(records: Sequence[Dialogue]) -> Features:
    return CLEANER._features(Batch(records))


def is_open(rule: Rule, found: Features, settings: PoolRules) -> np.ndarray:
    return CLEANER._gate(rule, found, settings)


def test_every_rule_has_a_gate() -> None:
    assert [rule.name for rule in all_rules() if rule.gate is None and rule.signs is None] == []


@hypothesis_settings(deadline=None)  # the first call compiles the kernels
@given(st.lists(turns, min_size=1, max_size=4), settings_of)
def test_no_gate_is_shut_where_its_rule_fires(drawn: list[list[tuple[str, str]]], settings: PoolRules) -> None:
    records = [dialogue(*pairs) for pairs in drawn]
    found = seen(records)
    for rule in RULES:
        opened = is_open(rule, found, settings)
        for record, is_looked_at in zip(records, opened, strict=True):
            assert is_looked_at or rule.find(case(record, settings)) is None, rule.name


@hypothesis_settings(deadline=None)  # the first call compiles the kernels
@given(st.lists(texts, min_size=1, max_size=5))
def test_signs_are_found_where_they_stand_folded(drawn: list[str]) -> None:
    records = [dialogue(("user", text)) for text in drawn]
    found = seen(records)
    for rule in RULES:
        for group in rule.groups:
            expected = [any(folded(sign) in folded(text) for sign in group) for text in drawn]
            assert found.has(group).tolist() == expected, (rule.name, group[:3])


@pytest.mark.parametrize(
    "limits", [(PoolRules(), GeneralRules(min_answer_chars=100)), (PoolRules(min_answer_chars=40, max_repeats=1), GeneralRules())]
)
def test_gates_miss_nothing_on_real_data_and_open_on_one_record_in_four(
    real_dialogues: list[Dialogue], limits: tuple[PoolRules, GeneralRules]
) -> None:
    is_general = np.array([record.pool == "general" for record in real_dialogues])
    found = seen(real_dialogues)
    looked_at, dropped = np.zeros(len(real_dialogues), bool), np.zeros(len(real_dialogues), bool)
    for rule in RULES:
        opened = np.where(is_general, is_open(rule, found, limits[1]), is_open(rule, found, limits[0]))
        fired = np.array([rule.find(case(record, limits[record.pool == "general"])) is not None for record in real_dialogues])
        assert not (fired & ~opened).any(), (rule.name, [real_dialogues[row].origin for row in np.flatnonzero(fired & ~opened)[:3]])
        looked_at |= opened
        dropped |= fired
    if limits[0] == PoolRules():
        # Measured: .21 (medical .18, general .6: lists and short answers).
        assert looked_at[~dropped].mean() < 0.25


def test_a_list_with_full_stops_opens_the_gate_of_its_rule() -> None:
    record = Dialogue(id="t:1", turns=(Turn("user", "感冒怎么办？"), Turn("assistant", "1。多喝水\n2。多休息\n4。清淡饮食")))
    (outcome,) = Cleaner(Config(repairs=()), Benchmark([], Decontamination()))(Batch([record])).outcomes()
    assert getattr(outcome, "reason", "") == "skipped_number"
