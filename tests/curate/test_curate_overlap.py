"""Contamination: planted overlaps of the training mix are found for each question, of their kind; what is not there is not."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import records
from medchatzh.contamination import KINDS, Overlap, by_category, read_overlaps
from medchatzh.curate import leaks, overlap
from medchatzh.records import Dialogue, Question, Turn, normalize
from medchatzh.run import Context

HANZI = "的病人医药症疗痛热咳血压糖尿心肝肺肾脾胃肠骨肌皮眼耳鼻喉口牙手足头颈胸腹背腰膝寒湿风火燥虚实阴阳气津液经络脉舌苔黄白红紫干润"


def text(chance: random.Random, length: int) -> str:
    return "".join(chance.choices(HANZI, k=length))


def dialogue(number: int, question: str, answer: str = "多喝水。", *more: str) -> Dialogue:
    turns = [Turn("user", question), Turn("assistant", answer)]
    turns += [Turn(role, content) for role, content in zip(("user", "assistant") * 2, more, strict=False)]
    return Dialogue(id=f"t:{number}", turns=tuple(turns))


@pytest.fixture
def find(tmp_path: Path):
    """Question id → overlap with these training dialogues."""

    def find(questions: list[Question], dialogues: list[Dialogue], **settings) -> dict[str, Overlap]:
        records.write(tmp_path / "train.jsonl", dialogues)
        found = list(leaks.find(questions, tmp_path / "train.jsonl", overlap.Config(**settings)))
        assert [one.id for one in found] == [question.id for question in questions]
        return {one.id: one for one in found}

    return find


def test_planted_overlaps_are_found_by_kind_and_witness(find) -> None:
    chance = random.Random(5)
    questions, dialogues, planted = [], [], {}
    for number in range(300):
        asked, said = text(chance, chance.randint(40, 120)), text(chance, chance.randint(60, 200))
        questions.append(Question(id=f"web:{number}", question=asked, references=(said,), category="内科" if number % 3 else "外科"))
        kind = ("exact", "exact", "contained", "contained", "near", "")[number % 6]
        other, noise = text(chance, 50), text(chance, 80)
        if kind == "exact":
            pair = ("，".join((asked[:9], asked[9:])) + "？", noise) if number % 6 else (other, said + "。")
        elif kind == "contained":
            pair = (text(chance, 150) + asked, noise) if number % 6 == 2 else (other, text(chance, 300) + said)
        else:
            cut = len(asked) // 2
            pair = (asked[:cut] + "的" + asked[cut + 1 :], noise) if kind else (other, noise)
        dialogues.append(dialogue(number, *pair))
        planted[f"web:{number}"] = (kind, f"t:{number}" if kind else "")
    chance.shuffle(dialogues)
    found = find(questions, dialogues, min_share=0.95)
    assert {key: (one.kind, one.witness) for key, one in found.items()} == planted
    sides = {number % 6: found[f"web:{number}"].side for number in range(6)}
    assert sides == {0: "answer", 1: "question", 2: "question", 3: "answer", 4: "question", 5: ""}
    total, *rows = by_category(found.values())
    assert (total.num_questions, total.num_clean, total.exact, total.contained, total.near) == (300, 50, 100, 100, 50)
    assert [(row.category, row.num_questions) for row in rows] == [("内科", 200), ("外科", 100)]
    assert all(row.num_questions == row.num_clean + row.exact + row.contained + row.near for row in rows)


def test_shares_are_of_the_questions_own_n_grams(find) -> None:
    chance = random.Random(6)
    asked = text(chance, 112)  # 100 n-grams
    question = Question(id="q", question=asked, references=("好",))
    halves = [dialogue(1, asked[:62]), dialogue(2, text(chance, 90) + asked[50:112])]  # 50 and 50 of them
    found = find([question], halves, min_share=0.6)["q"]
    assert (found.kind, found.question_share, found.answer_share) == ("", 1.0, 0.0)  # no text holds .6, together they hold all
    found = find([question], halves)["q"]
    assert (found.kind, found.side, found.share, found.witness) == ("contained", "question", 0.5, "t:1")  # the earliest
    repeated = find([question], [dialogue(1, asked[:32] + "，" + text(chance, 20) + asked[:32])])["q"]
    assert (repeated.kind, repeated.question_share) == ("", 0.2)  # a part that comes twice counts once


def test_user_turns_are_compared_with_questions_and_answers_with_answers(find) -> None:
    chance = random.Random(7)
    asked, said = text(chance, 50), text(chance, 50)
    question = Question(id="q", question=asked, references=(text(chance, 50), said))
    assert find([question], [dialogue(1, said, asked)])["q"].is_clean
    assert find([question], [dialogue(1, "别的", "别的", asked, "别的")])["q"].kind == "exact"  # a later turn
    assert find([question], [dialogue(1, "别的", "别的", "别的", said)])["q"].side == "answer"  # the second reference
    system = Dialogue(id="t:9", turns=(Turn("system", asked), Turn("user", "别的"), Turn("assistant", "别的")))
    assert find([question], [system])["q"].is_clean


def test_short_questions_and_lines_of_a_turn(find) -> None:
    questions = [Question(id="q", question="小儿发热抽搐怎么处理？", references=("多喝水，注意休息。",))]
    assert find(questions, [dialogue(1, "小儿发热抽搐，怎么处理")])["q"].kind == "exact"
    assert find(questions, [dialogue(1, "小儿发热抽搐，怎么处理\n" + text(random.Random(2), 120))])["q"].kind == "exact"
    assert find(questions, [dialogue(1, text(random.Random(2), 60), "多喝水，注意休息！")])["q"].is_clean  # too short an answer
    assert find(questions, [dialogue(1, "小儿发热抽搐怎么办呢")])["q"].is_clean
    assert find(questions, [dialogue(1, "小儿发热抽搐怎么处理呢")])["q"].kind == "near"


def test_questions_of_one_text_are_all_known(find) -> None:
    chance = random.Random(8)
    asked = text(chance, 40)
    twins = [Question(id=key, question=asked, references=(text(chance, 30),)) for key in ("a", "b")]
    assert [one.kind for one in find(twins, [dialogue(1, asked)]).values()] == ["exact", "exact"]


def test_a_conversation_is_known_by_its_opening_not_by_its_farewell(find) -> None:
    chance = random.Random(9)
    opening, farewell = text(chance, 40), "不客气，祝您早日康复，如果还有其他问题请随时向我咨询。"
    history = (Turn("user", opening), Turn("assistant", text(chance, 40)))
    question = Question(id="q", question="好的，谢谢医生的建议。", references=(farewell,), history=history)
    assert find([question], [dialogue(1, "好的，谢谢医生的建议。", farewell)])["q"].is_clean
    assert find([question], [dialogue(1, opening, "别的")])["q"].kind == "exact"


def jaccard(one: str, other: str) -> float:
    sets = [{made[start : start + 5] for start in range(max(1, len(made) - 4))} for made in map(normalize, (one, other))]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


WORDS = st.lists(
    st.sampled_from(["头痛三天", "发热", "怎么办", "吃什么药好", "医生您好", "高血压病人", "孩子", "咳"]), min_size=1, max_size=6
)


@given(st.lists(WORDS, min_size=1, max_size=4), st.lists(WORDS, min_size=1, max_size=5))
def test_nearness_is_the_exact_similarity_whatever_the_order(tmp_path_factory, asked: list[list[str]], trained: list[list[str]]) -> None:
    questions = [Question(id=f"q:{n}", question="".join(words), references=("好",)) for n, words in enumerate(asked)]
    path = tmp_path_factory.mktemp("near") / "train.jsonl"
    records.write(path, [dialogue(n, "".join(words)) for n, words in enumerate(trained)])
    for question, found in zip(questions, leaks.find(questions, path, overlap.Config(min_grams=99)), strict=True):
        best = max(jaccard(question.question, "".join(words)) for words in trained)
        is_equal = any(question.question == "".join(words) for words in trained)
        assert found.kind == ("exact" if is_equal else "near" if best >= 0.6 else "")
        assert found.share == (round(best, 4) if found.kind else 0)


def test_the_stage_writes_one_record_a_question_id(tmp_path: Path) -> None:
    chance = random.Random(10)
    questions = [Question(id=f"q:{n % 8}", question=text(chance, 40), references=(text(chance, 40),), category="内科") for n in range(10)]
    for folder in ("ingest", "mix", "out"):
        (tmp_path / folder).mkdir()
    records.write(tmp_path / "ingest/questions.jsonl", questions)
    records.write(tmp_path / "mix/train.jsonl", [dialogue(n, questions[n].question) for n in (1, 5)])
    inputs = {"ingest": tmp_path / "ingest", "mix": tmp_path / "mix"}
    result = overlap.run(overlap.Config(), inputs, tmp_path / "out", Context())
    found = read_overlaps(tmp_path / "out")
    assert {key for key, one in found.items() if not one.is_clean} == {"q:1", "q:5"} and len(found) == 8
    assert result.num_in == result.num_out == 8
    assert [(row["category"], row["num_questions"], row["num_clean"]) for row in result.facts["by_category"]] == [
        ("", 8, 6),
        ("内科", 8, 6),
    ]
    with pytest.raises(ValueError, match=r"overlaps\.jsonl: no such file"):
        read_overlaps(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"), [({"min_share": 0}, "min_share"), ({"min_similarity": 0.1}, "0.2"), ({"gram_chars": 1}, "2")]
)
def test_settings_that_cannot_be(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overlap.Config(**settings)


def test_an_empty_mix_knows_nothing(find) -> None:
    assert find([Question(id="q", question="头痛", references=("休息",))], [])["q"].is_clean
    assert find([], [dialogue(1, "头痛")]) == {}
    assert set(KINDS) == {"exact", "contained", "near"}
