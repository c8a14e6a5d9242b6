"""Ranking tasks: which questions, which answers, for whom, in which order."""

import json
from collections import Counter

import pytest

from medchatzh import records
from medchatzh.label import tasks
from medchatzh.label.prepare import Config, prepare, told
from medchatzh.label.session import Session
from medchatzh.label.tasks import LABELLING, TASKS, Labelling, load, queue, shown_order
from medchatzh.records import Dialogue, Preference, Question, Turn
from tests.label.conftest import dialogue, prediction


def by(config=None, **settings):
    return Config(**{"labellers": ("wang",), "overlap": 1.0} | settings)


def test_candidates_come_from_the_record_and_the_systems(made):
    folder, prepared = made(num_tasks=40)
    assert [len(task.candidates) for task in prepared.tasks] == [4] * 40
    for task in prepared.tasks:
        sources = {candidate.sources: candidate.text for candidate in task.candidates}
        assert sources.keys() == {("record",), ("alpha",), ("beta",), ("gamma",)}
        assert sources[("record",)] == f"第{task.id.split(':')[1]}个问题的医生回答。"
    assert load(folder)[1] == list(prepared.tasks)


def test_equal_answers_are_one_and_keep_all_who_gave_them(tmp_path):
    path, system = tmp_path / "q.jsonl", tmp_path / "p.jsonl"
    records.write(path, [dialogue(0, "多喝水。"), dialogue(1), dialogue(2, question="第０个问题:头痛怎么办?", answer="去医院")])
    records.write(system, [prediction(0, "s", "多喝水"), prediction(1, "s", " \n ")])
    prepared = prepare(path, {"s": system}, tmp_path / "out", by())
    (task,) = prepared.tasks
    assert {(one.text, one.sources) for one in task.candidates} == {("多喝水。", ("record", "s")), ("去医院", ("record",))}
    assert prepared.gathered.systems["s"] == {"joined": 1, "empty_answer": 1}
    assert len(prepared.gathered.asked) == 2, "a question in other width and punctuation is the same question"


def test_categories_have_their_share_and_a_larger_sample_begins_with_the_smaller(made):
    small, large = made("a", num_tasks=8)[1].tasks, made("b", num_tasks=20)[1].tasks
    assert Counter(task.category for task in small) == {"内科": 6, "儿科": 2}
    assert Counter(task.category for task in large) == {"内科": 15, "儿科": 5}
    assert [task.key for task in large[:8]] == [task.key for task in small]


def test_the_same_seed_gives_the_same_bytes_another_does_not(made, questions):
    first, again, other = (made(name, seed=seed)[0] for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert (first / TASKS).read_bytes() == (again / TASKS).read_bytes() != (other / TASKS).read_bytes()
    lines = questions.read_bytes().splitlines(keepends=True)
    questions.write_bytes(b"".join(reversed(lines)))
    assert {task.key for task in load(made("d", seed=1)[0])[1]} == {task.key for task in load(first)[1]}, (
        "the order of records plays no part"
    )


def test_the_overlap_goes_to_all_and_the_rest_is_dealt_evenly(made):
    _, prepared = made(num_tasks=40, overlap=0.25, labellers=("a", "b", "c"))
    counts = Counter(task.labellers for task in prepared.tasks)
    assert counts.pop(("a", "b", "c")) == 10
    assert counts == {("a",): 10, ("b",): 10, ("c",): 10}
    assert Counter(len(task.labellers) for task in made("none", overlap=0.0)[1].tasks) == {1: 10}
    assert Counter(len(task.labellers) for task in made("all", overlap=1.0)[1].tasks) == {2: 10}


def test_the_place_of_an_answer_tells_nothing(made):
    folder, _ = made(num_tasks=40, overlap=1.0, labellers=tuple("abcdefgh"))
    labelling, found = load(folder)
    places: Counter[tuple[str, int]] = Counter()
    for name in labelling.labellers:
        for task in found:
            for place, number in enumerate(shown_order(labelling, task, name)):
                places[task.candidates[number].sources[0], place] += 1
    assert len(places) == 16 and all(50 < count < 110 for count in places.values()), "80 expected, each ± 7.7"
    orders = {name: [task.key for task in queue(labelling, found, name)] for name in labelling.labellers}
    assert len({tuple(order) for order in orders.values()}) == 8, "everyone begins with other tasks"
    assert len({tuple(shown_order(labelling, found[0], name)) for name in labelling.labellers}) > 4


def test_what_is_labelled_already_is_left_out(made, tmp_path, questions, answers):
    first, _ = made(num_tasks=5)
    session = Session(first, "wang")
    session.save(session.queue[0], [1, 2, 3, 4])
    session.save(session.queue[1], [], skip="all_wrong")
    session.close()
    asked = {task.id for task in session.queue[:2]}
    second = prepare(questions, answers, tmp_path / "second", by(num_tasks=40), [first])
    assert second.num_done_before == 2 and {task.id for task in second.tasks} == {f"clinic:{n}" for n in range(40)} - asked
    file = tmp_path / "asked.jsonl"
    records.write(file, [Preference(id="r:1", prompt=(Turn("user", dialogue(3).question),), answers=("a", "b"), ranks=(1, 2))])
    assert prepare(questions, answers, tmp_path / "third", by(num_tasks=40), [file]).num_done_before == 1


def test_many_answers_are_drawn_from(made):
    _, prepared = made(num_tasks=40, answers_per_task=2)
    drawn = Counter(candidate.sources[0] for task in prepared.tasks for candidate in task.candidates)
    assert sum(drawn.values()) == 80 and min(drawn.values()) > 8


def test_questions_rankings_and_conversations(tmp_path):
    """History is part of the question: the same last words elsewhere are another question."""
    early = (Turn("user", "我头痛"), Turn("assistant", "多久了？"))
    path = tmp_path / "questions.jsonl"
    records.write(
        path,
        [
            Question(id="b:1", question="三天", references=("去医院", "休息"), history=early),
            Question(id="b:2", question="三天", references=("好",)),
        ],
    )
    prepared = prepare(tmp_path, {}, tmp_path / "out", by())
    assert [task.prompt for task in prepared.tasks] == [(*early, Turn("user", "三天"))]
    assert "has seen the test" in told(prepared, tmp_path / "out")
    ranked = tmp_path / "ranked.jsonl"
    records.write(ranked, [Preference(id="r:1", prompt=(*early, Turn("user", "三天")), answers=("甲", "乙", "丙"), ranks=(1, 2, 2))])
    (task,) = prepare(ranked, {}, tmp_path / "again", by()).tasks
    assert {candidate.text for candidate in task.candidates} == {"甲", "乙", "丙"}


def test_any_form_that_ingest_reads(tmp_path):
    table = tmp_path / "问 答.csv"
    advice = "您好，头痛的原因很多，先注意休息，按时睡觉，少看手机；如果两三天还不见好，或者越来越重，请到医院的神经内科看医生。"
    texts = {advice, advice.replace("休息", "喝水")}
    rows = "".join(f"内科,头痛,头痛怎么办？,{text}\n" for text in texts)
    table.write_bytes(f"department,title,ask,answer\n{rows}".encode("gb18030"))
    (task,) = prepare(table, {}, tmp_path / "out", by()).tasks
    assert task.category == "内科" and {candidate.text for candidate in task.candidates} == texts


def test_a_run_gives_its_curated_records(tmp_path, questions):
    run = tmp_path / "runs" / "mine"
    (run / "curate-0123").mkdir(parents=True)
    lines = [dialogue(1, "一"), dialogue(1, "二")]
    records.write(run / "curate-0123" / "medical.jsonl", lines)
    assert len(prepare(run, {}, tmp_path / "out", by()).tasks) == 1
    (run / "curate-4567").mkdir()
    records.write(run / "curate-4567" / "medical.jsonl", lines)
    with pytest.raises(ValueError, match="2 curated sets there; give one of them"):
        prepare(run, {}, tmp_path / "out2", by())


def test_an_id_that_means_another_question_is_no_join(tmp_path, questions):
    """`clinic:3` of another file is another question."""
    other = tmp_path / "p.jsonl"
    records.write(other, [records.Prediction(id="clinic:3", system="s", question="完全不同的问题？", answer="答"), prediction(4, "s")])
    prepared = prepare(questions, {"s": other}, tmp_path / "out", by())
    assert [task.id for task in prepared.tasks] == ["clinic:4"] and prepared.gathered.systems["s"] == {"contradiction": 1, "joined": 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labellers": ()}, "no labellers"),
        ({"labellers": ("wang", "Wang")}, "Wang is there twice|wang is there twice"),
        ({"labellers": ("../wang",)}, "a name has 1 to 40 letters"),
        ({"labellers": ("a/b",)}, "a name has 1 to 40 letters"),
        ({"labellers": ("a\n",)}, "a name has 1 to 40 letters"),
        ({"labellers": (".",)}, "a name has 1 to 40 letters"),
        ({"labellers": ("e\u0301",)}, "a name has 1 to 40 letters"),
        ({"num_tasks": 0}, "--num-tasks 0"),
        ({"answers_per_task": 1}, "give 2 to 9"),
        ({"answers_per_task": 10}, "give 2 to 9"),
        ({"overlap": 1.1}, "give a share"),
        ({"overlap": float("nan")}, "give a share"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        by(**settings)


def test_errors_say_what_and_where(tmp_path, questions, answers):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="nowhere: no such file or folder"):
        prepare(tmp_path / "nowhere", {}, out, by())
    with pytest.raises(ValueError, match="none of 40 questions has two different answers; add systems' answers"):
        prepare(questions, {}, out, by())
    with pytest.raises(ValueError, match="s: .*no such file"):
        prepare(questions, {"s": tmp_path / "none.jsonl"}, out, by())
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text(json.dumps({"question": "别的问题", "answer": "答"}), "utf-8")
    with pytest.raises(ValueError, match=r"no answer fits the questions \(unknown_question 1\)"):
        prepare(questions, {"s": foreign}, out, by())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no files in it"):
        prepare(tmp_path / "empty", {}, out, by())
    assert not out.exists() and not out.with_name("out.partial").exists()
    prepare(questions, answers, out, by())
    with pytest.raises(ValueError, match="is there already"):
        prepare(questions, answers, out, by())


def test_a_folder_that_was_changed_is_refused(folder):
    path = folder / TASKS
    content = path.read_text("utf-8")
    path.write_text(content.replace("多休息", "少休息", 1), "utf-8")
    with pytest.raises(ValueError, match="was changed; prepare a new folder"):
        load(folder)
    path.write_text(content, "utf-8")
    (folder / LABELLING).write_text('{"seed": 0, "labellers": ["../../x"]}', "utf-8")
    with pytest.raises(ValueError, match=r"labelling.json: .*a name has 1 to 40 letters"):
        load(folder)
    with pytest.raises(ValueError, match="no labelling.json there; make the folder"):
        load(folder / "verdicts")


def test_odd_dialogues_do_not_stop_it(tmp_path):
    path = tmp_path / "odd.jsonl"
    odd = [
        Dialogue(id="o:1", turns=()),
        Dialogue(id="o:2", turns=(Turn("user", "？？"), Turn("assistant", "a"))),
        Dialogue(id="o:3", turns=(Turn("assistant", "a"), Turn("assistant", "b"))),
        dialogue(1, "一" * 100_000),
        dialogue(1, "\u0000\u001b[2J\ud7ff"),
        dialogue(1, "。。。"),
        dialogue(1, "！"),
    ]
    records.write(path, odd)
    prepared = prepare(path, {}, tmp_path / "out", by(answers_per_task=9))
    assert prepared.gathered.unusable == {"no_question": 3} and len(prepared.tasks[0].candidates) == 4
    assert len(tasks.load(tmp_path / "out")[1]) == 1


def test_real_rankings(shared_data, tmp_path):
    """Six models' answers to 74 clinical cases, merged by ingest into rankings."""
    path = shared_data / "preference" / "disc_medllm_gpt4_scores" / "cmb-clin"
    prepared = prepare(path, {}, tmp_path / "out", by(labellers=("wang", "li"), answers_per_task=6))
    assert len(prepared.tasks) == 72 and Counter(len(task.candidates) for task in prepared.tasks)[6] > 60
    assert len(load(tmp_path / "out")[1]) == 72


def test_names_are_found_in_either_unicode_form(made):
    folder, _ = made(labellers=("é王",))
    assert Session(folder, "e\u0301王").labeller == "é王"


def test_labelling_needs_labellers():
    assert Labelling(seed=0, labellers=("a", "b-2", "王_医生")).labellers[2] == "王_医生"
