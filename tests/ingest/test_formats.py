"""Each raw format: what it makes of a record, and the reason where it makes none. Told by content as well as by name."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.ingest import Source, Tally, read_source
from medchatzh.ingest.files import Part
from medchatzh.ingest.formats import FORMATS, format_of
from medchatzh.ingest.formats.registry import converted
from medchatzh.ingest.turns import Unusable, normalize_turns
from medchatzh.prompt import check
from medchatzh.records import Dialogue, Document, Preference, Question, Record, Reject

RATED = ["alpaca", "sharegpt", "messages", "context_target", "question_answer", "seed_tasks", "cmdd", "rankings", "pairs"]


@pytest.fixture
def read(tmp_path: Path):
    """Read texts (or bytes) as the files of a source; `format` is told by content unless given."""

    def read(*contents: str | bytes, format: str = "auto", names: str = "abcdef", **settings) -> list[Record]:
        files = {}
        for name, content in zip(names, contents, strict=False):
            files[name] = tmp_path / name
            files[name].write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(read_source(Source(name="s", path="*", format=format, **settings), files, Tally()))

    return read


def lines(*records: dict) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def said(record: Record) -> list[str]:
    assert isinstance(record, Dialogue), record
    return [turn.role[0] + ":" + turn.content for turn in record.turns]


def reasons(records: list[Record]) -> list[str]:
    return [record.reason if isinstance(record, Reject) else "kept" for record in records]


def conversation(*pairs: tuple[str, str]) -> list[dict]:
    return [{"from": role, "value": text} for role, text in pairs]


ONE_OF_EACH = [
    ({"instruction": "头痛", "input": "三天", "output": "休息"}, ["u:头痛\n三天", "a:休息"]),
    ({"instruction": "二", "input": "", "output": "答", "history": [["一", "答一"]]}, ["u:一", "a:答一", "u:二", "a:答"]),
    ({"instruction": "问", "system": "你是医生", "output": 5}, ["s:你是医生", "u:问", "a:5"]),
    ({"instruction": " <user>: 甲 <bot>: 乙 <user>: 丙", "input": "", "output": "丁"}, ["u:甲", "a:乙", "u:丙", "a:丁"]),
    ({"conversations": conversation(("human", "问"), ("gpt", "答"))}, ["u:问", "a:答"]),
    ({"conversations": conversation(("system", "设"), ("user", "问"), ("assistant", "答"))}, ["s:设", "u:问", "a:答"]),
    ({"messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]}, ["u:问", "a:答"]),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "问"}]}, {"role": "assistant", "content": "答"}]},
     ["u:问", "a:答"]),
    ({"context": "问题：咳嗽？\n回答: ", "target": "止咳"}, ["u:咳嗽？", "a:止咳"]),
    ({"question": "问", "answer": "答"}, ["u:问", "a:答"]),
    ({"question": "问", "std_answer": "答", "class": "c"}, ["u:问", "a:答"]),
    ({"query": "问", "response": "答"}, ["u:问", "a:答"]),
    ({"questions": [["问", "问法二"]], "answers": ["答", "另答"]}, ["u:问", "a:答"]),
    ({"id": 1, "instruction": "写", "instances": [{"input": "夏", "output": "诗"}]}, ["u:写\n夏", "a:诗"]),
    ({"dialogue-content": [{"speaker": "医生", "sentence": "您好"}, {"speaker": "患者", "sentence": "咳"},
                           {"speaker": "患者", "sentence": "热"},
                           {"speaker": "医生", "sentence": "多久"}, {"speaker": "患者", "sentence": "谢谢"}]}, ["u:咳\n热", "a:多久"]),
]  # fmt: skip


@pytest.mark.parametrize(("record", "turns"), ONE_OF_EACH)
@pytest.mark.parametrize("form", ["lines", "array"])
def test_json_records_are_told_one_by_one(read, record: dict, turns: list[str], form: str) -> None:
    other = {"query": "x", "response": "y"}
    content = lines(other, record) if form == "lines" else json.dumps([other, record], ensure_ascii=False, indent=2)
    first, second = read(content)
    assert said(first) == ["u:x", "a:y"]
    assert said(second) == turns


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"instruction": "头痛", "input": ""}, "missing_answer"),
        ({"instruction": "头痛", "output": " \n"}, "missing_answer"),
        ({"instruction": "", "input": None, "output": "答"}, "missing_question"),
        ({"output": "答"}, "missing_question"),
        ({"instruction": ["头痛"], "output": "答"}, "unknown_format"),
        ({"instruction": "问", "output": "答", "history": ["一"]}, "unknown_format"),
        ({"instruction": "问", "output": "答", "history": 5}, "unknown_format"),
        ({"instruction": "问", "output": "答", "history": {"一": "二"}}, "unknown_format"),
        ({"question": "问"}, "missing_answer"),
        ({"questions": [], "answers": ["答"]}, "missing_question"),
        ({"context": "问题：\n回答: ", "target": "答"}, "missing_question"),
        ({"conversations": []}, "missing_question"),
        ({"conversations": "问"}, "unknown_format"),
        ({"conversations": conversation(("gpt", "答"))}, "missing_question"),
        ({"conversations": conversation(("human", "问"), ("gpt", ""))}, "missing_answer"),
        ({"conversations": conversation(("human", "问"), ("tool", "x"))}, "unknown_format"),
        ({"instruction": "写", "instances": "x"}, "unknown_format"),
        ({"medical_case": "x", "doctor_diagnosis": "y"}, "unknown_format"),
        ({"prompt": "问", "answers": [{"text": "甲", "rank": 1}]}, "too_few_answers"),
        ({"prompt": "问", "answers": [{"text": "甲", "rank": 1}, {"text": "", "rank": 2}]}, "too_few_answers"),
        ({"prompt": "问", "answers": [{"text": "甲", "rank": 1}, {"text": "乙", "rank": 1}]}, "no_preference"),
        ({"prompt": "问", "answers": [{"text": "甲", "rank": "最好"}, {"text": "乙", "rank": 1}]}, "unknown_format"),
        ({"prompt": "", "answers": [{"text": "甲", "rank": 1}, {"text": "乙", "rank": 2}]}, "missing_question"),
        ({"prompt": "问", "chosen": "同", "rejected": "同"}, "no_preference"),
        ({"prompt": "问", "chosen": "甲", "rejected": ""}, "too_few_answers"),
    ],
)
def test_unusable_records_say_why(read, record: dict, reason: str) -> None:
    found = read(lines({"question": "q", "answer": "a"}, record))
    assert reasons(found) == ["kept", reason]
    assert isinstance(found[1], Reject)
    assert found[1].record == record
    assert found[1].origin == "a:2"


@pytest.mark.parametrize("error", [TypeError, KeyError, ValueError, AttributeError])
def test_a_row_that_its_converter_does_not_foresee_is_a_reject(error: type[Exception]) -> None:
    def convert(row: dict) -> Dialogue:
        raise error("no 13800001234")

    found = converted(convert, {"a": 1})
    assert (found.reason, found.record) == ("unknown_format", {"a": 1})
    assert found.detail.startswith(f"cannot be converted: {error.__name__}: ")
    assert "1380000" not in found.detail


def test_an_unknown_form_lists_its_keys(read) -> None:
    (found,) = read(lines({"病名": "x", "症状": "y"}))
    assert isinstance(found, Reject)
    assert found.detail.startswith("keys 病名, 症状;")


def test_a_named_form_takes_no_other(read) -> None:
    assert reasons(read(lines({"question": "q", "answer": "a"}), format="alpaca")) == ["unknown_format"]
    assert reasons(read("胃痛\n怎么办\n", format="alpaca")) == ["unknown_format"]


def test_changes_to_turns_are_named(read) -> None:
    (found,) = read(
        lines(
            {"conversations": conversation(("gpt", "您好"), ("human", "一"), ("human", "二"), ("gpt", "答"), ("gpt", ""), ("human", "谢"))}
        )
    )
    assert said(found) == ["u:一\n二", "a:答"]
    assert found.edits == ("turns_merged", "empty_turn_dropped", "leading_answer_dropped", "trailing_question_dropped")  # type: ignore[attr-defined]


TURNS = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.sampled_from(["", "甲", "乙"])), max_size=9)


@given(TURNS, st.booleans())
def test_normalized_turns_fit_the_template_and_invent_nothing(found: list, answered: bool) -> None:
    try:
        turns, edits = normalize_turns(found, answered=answered)
    except Unusable as error:
        assert error.reason in ("missing_question", "missing_answer")
        return
    check(turns, answered=answered)
    texts = iter([text for _, text in found if text])
    assert all(piece in texts for turn in turns if turn.role != "system" for piece in turn.content.split("\n"))
    kept = [(turn.role, turn.content) for turn in turns]
    assert kept == found or edits or sum(role == "system" for role, _ in found) > 1 or ("system", "") in found


def test_rankings(read) -> None:
    answers = [{"text": "乙", "rank": 2}, {"text": "甲", "rank": 1}, {"text": "丙", "rank": 2}]
    first, second = read(lines({"id": "r1", "prompt": "问", "answers": answers, "category": "内科"}, {"prompt": "问", "answers": answers}))
    assert isinstance(first, Preference) and isinstance(second, Preference)
    assert (first.answers, first.ranks, first.group, first.category) == (("乙", "甲", "丙"), (2, 1, 2), "r1", "内科")
    assert list(first.pairs()) == [("甲", "乙"), ("甲", "丙")]
    assert len(second.group) == 16


@pytest.mark.parametrize(
    "record",
    [
        {"conversations": conversation(("human", "问")), "chosen": "好", "rejected": "坏"},
        {
            "conversations": conversation(("human", "问")),
            "chosen": {"from": "gpt", "value": "好"},
            "rejected": {"from": "gpt", "value": "坏"},
        },
        {"instruction": "问", "input": "", "chosen": "好", "rejected": "坏"},
        {"question": "问", "response_chosen": "好", "response_rejected": "坏"},
        {"question": "问", "chosen": "x", "response_chosen": "好", "response_rejected": "坏"},
        {"prompt": [{"role": "user", "content": "问"}], "chosen": [{"role": "assistant", "content": "好"}], "rejected": "坏"},
    ],
)
def test_pairs(read, record: dict) -> None:
    (found,) = read(lines(record))
    assert isinstance(found, Preference)
    assert [turn.content for turn in found.prompt] == ["问"]
    assert list(found.pairs()) == [("好", "坏")]


def test_toyhom_csv(read) -> None:
    text = "department,title,ask,answer\n内科,胃痛,三天了,休息\n内科,胃痛,胃痛,忌辛辣\n外科,腰痛, ,热敷\n外科,腰痛,问,\n外科,两列\n"
    found = read(text.encode("gbk"))
    assert [said(record) for record in found[:3]] == [["u:胃痛\n三天了", "a:休息"], ["u:胃痛", "a:忌辛辣"], ["u:腰痛", "a:热敷"]]
    assert reasons(found[3:]) == ["missing_answer", "broken_row"]
    assert [record.category for record in found[:3]] == ["内科", "内科", "外科"]
    assert [record.origin for record in found] == ["a:2", "a:3", "a:4", "a:5", "a:6"]
    assert reasons(read("a,b\n1,2\n", format="toyhom_csv")) == ["unknown_format"]


def test_toyhom_text(read) -> None:
    found = read("问一\n答一\n\n\n问二\n答二\n\n问三\n答三\n\n问四\n\n甲\n乙\n丙\n", format="toyhom_text")
    assert [said(record) for record in found[:3]] == [[f"u:问{n}", f"a:答{n}"] for n in "一二三"]
    assert reasons(found[3:]) == ["missing_answer", "broken_row"]
    assert [record.origin for record in found] == ["a:1", "a:5", "a:8", "a:11", "a:13"]
    assert [len(record) for record in map(said, read("问一\n答一\n\n问二\n答二\n\n问三\n答三\n"))] == [2, 2, 2]


def test_smile(read) -> None:
    turns = [{"role": role, "content": text} for role, text in (("client", "难过"), ("counselor", "我在听"), ("client", "嗯"))]
    found = read(json.dumps(turns, indent=2), '[{"role": "client", "content": "x"', names="ab")
    assert said(found[0]) == ["u:难过", "a:我在听"]
    assert reasons(read("[{", format="smile")) == ["broken_row"]


def remedi(context: str, question: str, answer: str) -> str:
    return (
        f"<|endoftext|> <|context|> {context}<|endofcontext|> <|currentuser|> {question} <|endofcurrentuser|> <|intent|> x <|endofintent|> "
        f"<|action|> y <|endofaction|> <|response|> {answer} <|endofresponse|> <|endoftext|>\n"
    )


def test_remedi_gives_each_dialogue_once(read) -> None:
    one = remedi("", "咳", "多久") + remedi("<|user|> 咳 <|system|> 多久", "三天", "吃药")
    found = read(one + "\n" + remedi("", "热", "喝水") + remedi("", "痛", "休息") + "<|broken|>\n")
    assert [said(record) for record in found[:3]] == [["u:咳", "a:多久", "u:三天", "a:吃药"], ["u:热", "a:喝水"], ["u:痛", "a:休息"]]
    assert [record.origin for record in found] == ["a:1", "a:4", "a:5", "a:6"]
    assert reasons(found[3:]) == ["broken_row"]


WEB = (
    "1\t0\t内科\t问一\t别的\n1\t1\t内科\t问一\t答一\n2\t1\t外科\t问二\t答二\n2\t1\t外科\t问二\t答三\n"
    "broken\n3\t0\t外科\t问三\t别的\n4\t?\t外科\t问\t答\n"
)


def test_webmedqa_joins_the_rows_of_a_question(read) -> None:
    found = read(WEB)
    assert reasons(found) == ["kept", "kept", "broken_row", "missing_answer", "broken_row"]
    assert [record.origin for record in found] == ["a:1", "a:3", "a:5", "a:6", "a:7"]
    first, second = found[:2]
    assert isinstance(first, Question) and isinstance(second, Question)
    assert (first.question, first.references, first.distractors, first.category) == ("问一", ("答一",), ("别的",), "内科")
    assert second.references == ("答二", "答三")


def test_webmedqa_train_keeps_label_1(read) -> None:
    found = read(WEB, format="webmedqa_train")
    assert reasons(found) == ["negative_pair", "kept", "kept", "kept", "broken_row", "negative_pair", "broken_row"]
    assert said(found[1]) == ["u:问一", "a:答一"]


def test_cmedqa(read) -> None:
    text = '0\t失眠\t"别""的"""\n1\t失眠\t"早睡""早起"""\n1\t失眠\t跨\n行\n1\t失眠\t"没有引号\n0\t失眠\t别的\n1\t失眠\n'
    found = read(text, format="cmedqa_tsv")
    assert reasons(found) == ["negative_pair", "kept", "broken_row", "kept", "negative_pair", "broken_row"]
    assert said(found[1]) == ["u:失眠", 'a:早睡"早起"']
    assert [record.origin for record in found] == ["a:1", "a:2", "a:3", "a:5", "a:6", "a:7"]


def test_question_pairs_are_not_taken_for_answers(read) -> None:
    pairs = "".join(f"{number % 2}\t问{number}\t问法{number}\n" for number in range(30))
    assert reasons(read(pairs)) == ["unknown_format"]
    candidates = "".join(f"{number % 2}\t问{number // 10}\t答{number}\n" for number in range(30))
    assert reasons(read(candidates)) == ["negative_pair", "kept"] * 15


def test_drug_texts_are_documents(read) -> None:
    found = read(json.dumps(["利可君\n剂型:片剂", " "], ensure_ascii=False, indent=1))
    assert isinstance(found[0], Document)
    assert (found[0].book, found[0].text) == ("利可君", "利可君\n剂型:片剂")
    assert reasons(found) == ["kept", "missing_answer"]


def test_books(read) -> None:
    body = "<篇名>样书\n书名：样书\n" + "脾胃者，仓廪之官。\n" * 400
    good = body.encode("gb18030")
    bad = good.replace(b"\n", b"\n\xff", 1)
    found = read(good, b"", bytes(9000), bad, format="book", names=["012-样书.txt", "b.txt", "c.txt", "样.txt"])
    assert reasons(found) == ["kept", "empty_file", "null_bytes", "kept"]
    assert isinstance(found[0], Document) and isinstance(found[3], Document)
    assert (found[0].book, found[0].text, found[0].edits) == ("样书", body, ())
    assert found[3].edits == ("undecodable_bytes:1",)
    assert "\ufffd" in found[3].text


def scored(model: str, case: str, complaint: str, answers: list[str], scores: str) -> dict:
    talk = f"patient: {complaint}\n" + "\npatient: 然后呢？\n".join(f"doctor: {answer}" for answer in answers)
    numbers = "\n".join(
        f"{name}: {score}" for name, score in zip(("Proactivity", "Accuracy", "Helpfulness", "Linguistic Quality"), scores, strict=True)
    )
    prompt = f"Rate.\nAccuracy: x\n[start of conversation]\n{talk}\n[end of conversation]"
    return {"id": case, "model": model, "source": "c", "scores": numbers, "prompt": prompt}


def test_disc_scores_rank_the_models_of_a_case(read) -> None:
    a = lines(scored("a", "0", "腹痛", ["先检查。", "再手术。"], "5555"), scored("a", "1", "咳", ["甲"], "3333"), {"id": 3})
    b = lines(scored("b", "0", "腹痛", ["多喝水"], "4455"), scored("b", "1", "咳", ["乙"], "3333"))
    c = lines(scored("c", "0", "腹痛", ["不知道"], "5544"), scored("c", "2", "热", ["丙"], "1111"))
    found = read(a, b, c)
    assert reasons(found) == ["unknown_format", "kept", "no_preference", "too_few_answers"]
    assert isinstance(found[1], Preference)
    assert (found[1].answers, found[1].ranks) == (("先检查。\n\n再手术。", "多喝水", "不知道"), (1, 2, 2))
    assert ([turn.content for turn in found[1].prompt], found[1].group) == (["腹痛"], "0")
    assert [record.origin for record in found] == ["a:3", "a:1", "a:2", "c:2"]


COLUMNS = {"question": "q", "answer": "a", "category": "dept"}


@pytest.mark.parametrize(
    ("format", "content"),
    [("csv", 'q,a,dept\n胃痛,"饮食,规律",内科\n,x,y\n'), ("tsv", "q\ta\tdept\n胃痛\t饮食,规律\t内科\n\tx\ty\n"),
     ("jsonl", lines({"q": "胃痛", "a": "饮食,规律", "dept": "内科"}, {"q": "", "a": "x"}))],
)  # fmt: skip
def test_tables_by_named_columns(read, format: str, content: str) -> None:
    found = read(content, format=format, columns=COLUMNS)
    assert said(found[0]) == ["u:胃痛", "a:饮食,规律"]
    assert found[0].category == "内科"
    assert reasons(found) == ["kept", "missing_question"]
    assert set(reasons(read(content, format=format, columns={"question": "没有", "answer": "也没有"}))) == {"unknown_format"}
    [told, *_] = read(content, format=format, columns={"question": "没有", "answer": "a"})
    assert (told.reason, told.detail) == ("missing_question", "no column 没有 among q, a, dept")


@pytest.mark.parametrize("format", sorted(FORMATS))
@pytest.mark.parametrize("content", ["胃痛，怎么办？\n", "[[1, 2], 3]", '{"a": 1}', "\x00\t1\t\n", "[", "<|currentuser|>"])
def test_no_format_crashes_on_what_is_not_its_own(read, format: str, content: str) -> None:
    columns = {"question": "q", "answer": "a"} if format in ("csv", "tsv", "jsonl") else {}
    read(content, format=format, columns=columns)


def test_a_file_of_no_known_format_is_one_reject(read) -> None:
    (found,) = read("春眠不觉晓，\n处处闻啼鸟。\n")
    assert isinstance(found, Reject)
    assert found.reason == "unknown_format"
    assert "name the source's format" in found.detail


def test_rejects_mask_telephones_and_addresses(read) -> None:
    (found,) = read(lines({"question": "我的电话138-0013-8000，邮箱 a.b＠qq.com，血压140/90，编号12345"}))
    assert isinstance(found, Reject)
    assert found.record == {"question": "我的电话***，邮箱 ***，血压140/90，编号12345"}


def test_rejects_mask_labelled_names_and_accounts_wherever_they_stand(read) -> None:
    row = {
        "姓名": "李小明",
        "text": "我叫王建国，身份证号码：11010519491231002X，住址…",
        "note": ["微信号：abc12345", "王建国和李小明，abc12345"],
    }
    (found,) = read(lines(row))
    assert isinstance(found, Reject)
    assert found.record == {"姓名": "***", "text": "我叫***，身份证号码：***，住址…", "note": ["微信号：***", "***和***，***"]}


def test_a_reject_of_a_broken_line_masks_the_patient_and_keeps_the_names_of_columns(read) -> None:
    _, found = read(lines({"question": "头痛", "answer": "休息"}) + '{"患者姓名": "李小明", "姓名": 姓名 性别 年龄，病史：李小明头痛')
    assert isinstance(found, Reject) and found.reason == "broken_row"
    assert found.record == '{"患者姓名": "***", "姓名": 姓名 性别 年龄，病史：***头痛'


def test_every_format_has_a_name_of_its_own_and_auto_is_none() -> None:
    assert set(RATED) < set(FORMATS)
    assert "auto" not in FORMATS
    part = Part("x", lambda: io.BytesIO("书名：甲\n".encode()))
    assert format_of(part, Source(name="s", path="x")).name == "book"
