"""What the report shows question by question."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import report
from medchatzh.records import Prediction, Question, Score, Turn, read, write
from medchatzh.report import html, items
from medchatzh.report.data import Inputs
from medchatzh.report.items import characters, draw, gather
from medchatzh.report.view import Browser, Text
from medchatzh.run import Context


def browser(inputs: dict[str, Path], **changes) -> Browser:
    made = report.build(report.Config(**changes), inputs, Context(seed=7))
    return next(block for section in made.sections for block in section.blocks if isinstance(block, Browser))


def change(path: Path, kind: type, changed) -> None:
    write(path, list(map(changed, read(path, kind))))


def test_all_questions_are_there_in_their_order_with_all_answers_and_scores(finished_run):
    found = browser(finished_run)
    asked = list(read(finished_run["ingest"] / "questions.jsonl", Question))
    assert [item.id for item in found.items] == [question.id for question in asked]
    assert [label.partition("（")[0] for label, _ in found.systems] == [
        "medchatzh",
        "before_sft",
        "no_medical",
        "canned",
        "random",
        "silent",
    ]
    assert found.columns == ("strict/BLEU-1", "strict/ROUGE-L", "medchatzh/BLEU-1", "reward")
    assert found.signatures["medchatzh"][0] == "BLEU|refs:medchatzh|v:test" and found.signatures["reward"] == ("reward|refs:judge|v:test",)
    scores = {(score.system, score.id, score.metric): score.value for score in read(finished_run["evaluate"] / "scores.jsonl", Score)}
    for item in found.items:
        assert item.answers[0].startswith("medchatzh的回答") and item.answers[-1] is None
        assert item.lengths[-1] is None and item.scores[-1] == (None,) * 4
        assert item.scores[3] == tuple(scores["canned", item.id, column] for column in found.columns)


def test_own_references_and_sampled_ones_are_told_apart(finished_run):
    item = browser(finished_run).items[4]
    assert item.references == ("真实答案4",) and item.sampled[0].startswith("别题的答案4") and len(item.sampled) == 2


def test_more_questions_than_asked_for_are_sampled_over_the_categories(finished_run):
    found = browser(finished_run, num_items=20, num_samples=3)
    assert len(found.items) == 20 and {item.category for item in found.items} == {"内科", "外科", "妇产科", "儿科", "其他"}
    assert "121 题中抽取 20 题" in found.notes[0].zh
    everything = [item.id for item in browser(finished_run).items]
    assert [item.id for item in found.items] == [key for key in everything if key in {item.id for item in found.items}]
    again = browser(finished_run, num_items=20, num_samples=20)
    assert found == again, "the samples in print do not change what the browser holds"


def test_none_asked_for_is_said(finished_run):
    made = report.build(report.Config(num_items=0), finished_run, Context(seed=7))
    (said,) = next(section.blocks for section in made.sections if section.key == "items")
    assert isinstance(said, Text) and "num_items = 0" in said.text.zh


def test_items_keep_to_their_share_of_the_page(finished_run, monkeypatch):
    whole = browser(finished_run)
    size = len(html.embedded(whole.items).encode())
    monkeypatch.setattr(items, "_MAX_BYTES", size // 3)
    fewer = browser(finished_run)
    assert 30 < len(fewer.items) < 50 and len(html.embedded(fewer.items).encode()) <= size // 3 + 100


def test_long_texts_are_cut_and_their_true_length_told(finished_run):
    change(
        finished_run["generate@canned"] / "predictions.jsonl",
        Prediction,
        lambda found: msgspec.structs.replace(found, answer="多喝 水。\n" * 2000),
    )
    item = browser(finished_run).items[0]
    assert item.answers[3] == ("多喝 水。\n" * 240)[:1199] + "…" and item.lengths[3] == 8000


def test_line_breaks_stay_and_personal_data_does_not(finished_run):
    said = "1. 休息\r\n\n2. 致电 138 0013 8000，或 a.b@x.com"
    change(finished_run["generate@canned"] / "predictions.jsonl", Prediction, lambda found: msgspec.structs.replace(found, answer=said))
    change(
        finished_run["ingest"] / "questions.jsonl",
        Question,
        lambda found: msgspec.structs.replace(found, references=("加微信 13800138000",), distractors=(said,)),
    )
    item = browser(finished_run).items[0]
    assert item.answers[3] == item.sampled[0] == "1. 休息\n2. 致电 ▇▇▇，或 ▇▇▇"
    assert item.references == ("加微信 ▇▇▇",)


def test_the_turns_before_a_question_are_shown(finished_run):
    history = (Turn("user", "头痛三天"), Turn("assistant", "发烧吗？"))
    change(
        finished_run["ingest"] / "questions.jsonl", Question, lambda found: msgspec.structs.replace(found, history=history, question="不烧")
    )
    assert browser(finished_run).items[0].question == "问：头痛三天\n答：发烧吗？\n问：不烧"


def test_without_an_evaluation_answers_are_shown_without_scores(finished_run):
    del finished_run["evaluate"]
    found = browser(finished_run)
    assert found.columns == () and found.items[0].answers[0] and found.items[0].scores == ((),) * 6


def test_of_a_repeated_id_the_first_answer_and_question_count(finished_run):
    for name, kind, field in (("generate@canned", Prediction, "answer"), ("ingest", Question, "question")):
        path = finished_run[name] / ("predictions.jsonl" if kind is Prediction else "questions.jsonl")
        first = list(read(path, kind))
        write(path, [*first, *(msgspec.structs.replace(record, **{field: "后来的"}) for record in first)])
    gathered = gather(Inputs(finished_run), 300, 7, ())
    assert all("后来的" not in (item.question, *item.answers) for item in gathered.items.values())
    assert len(gathered.lengths["canned"]) == gathered.num_questions == 121


@given(st.recursive(st.text(), st.lists))
def test_the_data_in_the_page_cannot_end_its_element(value):
    assert not set(html.embedded(value)) & set("<>&") and json.loads(html.embedded(value)) == value


@pytest.mark.parametrize(("text", "length"), [("", 0), (" 多 喝\n水\u3000", 3), ("𠮷𠮷", 2), ("ab c", 3)])
def test_characters_are_counted_as_the_metrics_count_them(text, length):
    assert characters(text) == length


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.sampled_from("abcd")), st.integers(0, 20), st.integers(0, 3))
def test_draw_spreads_and_repeats(questions, how_many, seed):
    chosen = draw(questions.items(), how_many, seed)
    assert chosen == draw(reversed(list(questions.items())), how_many, seed), "the order of the file does not matter"
    assert len(chosen) == len(set(chosen)) == min(how_many, len(questions))
    if how_many >= len(set(questions.values())):
        assert {questions[key] for key in chosen} == set(questions.values())
