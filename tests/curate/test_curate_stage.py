from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.curate import Config, curate_records, run
from medchatzh.curate.config import Decontamination, Duplicates
from medchatzh.records import Dialogue, Question, Reject, Turn, read, write
from medchatzh.run import Context

ANSWER = "通常一周左右自愈，注意休息、多喝水，体温超过38.5℃可遵医嘱使用退热药。"
LONG = "父亲今年六十七岁，体检发现前列腺特异抗原比正常值高一点，夜里要起来两三次，需要做穿刺检查吗？"


def talk(number: int, question: str, answer: str = ANSWER, source: str = "t") -> Dialogue:
    return Dialogue(id=f"{source}:{number}", source=source, origin=f"f:{number}", turns=(Turn("user", question), Turn("assistant", answer)))


def reasons(records: list[Dialogue], questions: list[Question], config: Config | None = None) -> list[tuple[str, str]]:
    made = curate_records(records, questions, config or Config())
    return [(item.reason, item.detail) if isinstance(item, Reject) else ("", "") for item in made]


def test_the_first_of_equal_records_is_kept_and_named() -> None:
    records = [
        talk(1, "感冒了怎么办？"),
        talk(2, "感冒了，怎么办?", ANSWER.replace("，", ", ")),
        talk(3, "感冒了怎么办？", "请到医院看一下发热门诊。"),
    ]
    assert reasons(records, []) == [("", ""), ("exact_duplicate", "t:1"), ("", "")]
    assert reasons(records, [], Config(duplicates=Duplicates(exact=False, near=False))) == [("", "")] * 3


@pytest.mark.parametrize(
    ("asked", "answer", "leaks"),
    [
        ("体检发现前列腺 特异抗原偏高? 需要做穿刺吗", ANSWER, False),
        (LONG.replace("，", " "), ANSWER, True),
        ("前列腺抗原偏高。" + LONG, ANSWER, True),
        (LONG[:-8] + "要不要紧？", ANSWER, True),
        ("不相干的问题，孩子发烧怎么办？", "特异抗原轻度升高不等于肿瘤，建议先复查并做超声，再由泌尿外科医生决定。", True),
        ("不相干的问题，孩子发烧怎么办？", "建议先复查，再由医生决定。", False),
    ],
)
def test_what_the_benchmark_knows_is_dropped(asked: str, answer: str, leaks: bool) -> None:
    references = ("特异抗原轻度升高不等于肿瘤；建议先复查并做超声，再由泌尿外科医生决定", "建议先复查，再由医生决定。")
    question = Question(id="web:7", question=LONG, references=references)
    ((reason, detail),) = reasons([talk(1, asked, answer)], [question])
    assert (reason, detail.partition(" ")[0]) == (("in_benchmark", "web:7") if leaks else ("", ""))


SHORT = "小儿发热抽搐怎么处理？"


@pytest.mark.parametrize(
    ("asked", "leaks"),
    [
        (["感冒怎么办？", LONG], True),
        (["感冒怎么办？", "还有一事。" + LONG], True),
        (["感冒怎么办？", "小儿发热抽搐，怎么处理"], True),
        (["小儿发热抽搐怎么处理?\n孩子两岁，昨夜起烧到39.5℃，抽了两分钟。"], True),
        (["头痛\n怎么治疗\n已经三天了"], False),
        (["感冒怎么办？", "孩子两岁，昨夜起烧，抽了两分钟。"], False),
    ],
)
def test_every_user_turn_and_every_long_line_is_compared(asked: list[str], leaks: bool) -> None:
    questions = [Question(id=f"web:{n}", question=text, references=("甲",)) for n, text in enumerate((LONG, SHORT, "怎么治疗？"))]
    record = Dialogue(id="t:1", turns=tuple(turn for text in asked for turn in (Turn("user", text), Turn("assistant", ANSWER))))
    ((reason, _),) = reasons([record], questions, Config(rules=()))
    assert reason == ("in_benchmark" if leaks else "")


def test_containment_can_be_made_strict() -> None:
    question = Question(id="web:7", question=LONG, references=("甲",))
    strict = Config(decontamination=Decontamination(min_containment=1.0))
    changed = LONG[:20] + "大概" + LONG[20:]
    assert reasons([talk(1, changed)], [question], strict) == [("", "")]
    with pytest.raises(ValueError, match="min_containment"):
        Decontamination(min_containment=0)


def test_run_writes_pools_rejects_and_counts_that_balance(tmp_path: Path) -> None:
    ingest, out = tmp_path / "ingest", tmp_path / "out"
    ingest.mkdir()
    out.mkdir()
    general = Dialogue(
        id="g:1", source="g", pool="general", turns=(Turn("user", "谈谈读书"), Turn("assistant", "读书使人明理。" + "开卷有益，" * 3))
    )
    records = [talk(1, "感冒怎么办？", "1、多休息。2、多喝水，清淡饮食。"), talk(2, "感冒呢？", "多喝水。"), talk(3, LONG), general]
    write(ingest / "dialogues.jsonl", records)
    write(ingest / "questions.jsonl", [Question(id="web:7", question=LONG, references=("甲",))])
    result = run(Config(), {"ingest": ingest}, out, Context())

    kept = list(read(out / "medical.jsonl", Dialogue))
    rejects = list(read(out / "rejects.jsonl", Reject))
    assert [(record.id, record.edits, record.answers[0]) for record in kept] == [
        ("t:1", ("list_numbers",), "1.多休息。2.多喝水，清淡饮食。")
    ]
    assert list(read(out / "general.jsonl", Dialogue)) == []
    assert [(item.id, item.origin, item.stage, item.reason) for item in rejects[:2]] == [
        ("t:2", "f:2", "curate", "short_answer"),
        ("t:3", "f:3", "curate", "in_benchmark"),
    ]
    assert result.num_in == result.num_out + sum(result.dropped.values()) == 4
    facts = result.facts
    assert facts["by_source"]["t"] == {"num_in": 3, "num_out": 1, "dropped": {"in_benchmark": 1, "short_answer": 1}}
    assert facts["by_pool"]["general"]["dropped"] == {"short_answer": 1}
    assert facts["edits"] == {"list_numbers": 1}
    assert facts["benchmark_overlap"] == {"t": {"exact": 1}}
    assert sum(facts["lengths"]["medical"]["before"]) == 3 and sum(facts["lengths"]["medical"]["after"]) == 1
    assert len(facts["lengths"]["medical"]["bins"]) == len(facts["lengths"]["medical"]["before"])


_phrases = st.lists(
    st.sampled_from(["多喝水", "。", "，", "找13800001234。", "1、", "2、", "谢谢", "A", "？", "\n", "头痛三天", "建议您"]), max_size=8
).map("".join)


@given(st.lists(st.tuples(_phrases, _phrases), max_size=6))
def test_every_record_comes_out_once_in_order_and_curating_again_changes_nothing(pairs: list[tuple[str, str]]) -> None:
    records = [talk(number, question, answer) for number, (question, answer) in enumerate(pairs)]
    made = list(curate_records(records, [], Config()))
    assert [item.id for item in made] == [record.id for record in records]
    kept = [item for item in made if isinstance(item, Dialogue)]
    assert list(curate_records(kept, [], Config())) == kept
    assert all("13800001234" not in str(item) for item in made)


def test_a_quotation_shows_no_half_of_a_number() -> None:
    (found,) = curate_records([talk(1, "感冒怎么办？", "请联系我们的客服人员电话13812345678。" * 5)], [], Config())
    assert isinstance(found, Reject) and found.reason == "loop" and b"1381" not in msgspec.json.encode(found)


def test_rejects_hide_what_the_rules_were_told_to_look_for() -> None:
    (found,) = curate_records([talk(1, "我在北京协和医院看的，要紧吗？")], [], Config(personal_kinds=("hospital",)))
    assert isinstance(found, Reject) and found.reason == "personal_data" and "协和".encode() not in msgspec.json.encode(found)
