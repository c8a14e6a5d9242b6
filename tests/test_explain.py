"""Explain: one planted record for each fate, in files as the stages write them."""

import io
import os
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import curate
from medchatzh.cli import main
from medchatzh.curate.privacy import mask
from medchatzh.explain import explain, files, judge, show
from medchatzh.explain.story import Step, Story
from medchatzh.records import Dialogue, Document, Question, Reject, Score, Turn, write
from medchatzh.run import MANIFEST, Manifest

GOOD = "高血压患者平时应当低盐饮食，每天食盐不超过5克，规律服药，不要自行停药，并且每天在固定的时间测量血压，做好记录，复诊时带给医生看。"
ASKED = "高血压患者平时应该注意些什么，饮食上有没有什么需要忌口的地方？"
LEAK = "反复口腔溃疡半年，吃了很多维生素都不见好转，请问应该做什么检查，平时要注意什么？"
MOBILE = "13800138000"


def dialogue(row: int, question: str, answer: str, source: str = "clinic", **more) -> Dialogue:
    turns = (Turn("user", question), Turn("assistant", answer))
    return Dialogue(id=f"{source}:{row}", source=source, origin=f"medical/{source}.csv:{row + 1}", turns=turns, **more)


RECORDS = [
    dialogue(1, ASKED, GOOD),
    dialogue(2, "孩子发烧怎么办？", "建议您多喝水，好好休息，以及"),
    dialogue(3, "糖尿病人可以吃水果吗？", "血糖平稳时可以,每天吃苹果１００克左右，放在两餐之间，并且减少主食的量，注意监测餐后血糖。"),
    dialogue(4, ASKED, GOOD.replace("，", " ， ")),
    dialogue(5, ASKED, GOOD.replace("带给医生看", "带给大夫看")),
    dialogue(6, LEAK, "口腔溃疡反复发作与免疫、营养和精神压力有关，建议查血常规和维生素水平，注意口腔卫生，避免辛辣食物。"),
    dialogue(7, "在哪里可以看中医？", f"可以到当地的中医院就诊，挂中医内科的号，也可以打我的电话{MOBILE}预约，我会帮您安排合适的医生。"),
    dialogue(
        8,
        "感冒后一直咳嗽怎么办？",
        "感冒后咳嗽多数在三周内自行缓解，可以多喝温水，避免受凉和烟雾刺激，如果超过八周仍然咳嗽，应当拍胸片检查。",
    ),
    dialogue(
        9,
        "肩膀疼痛抬不起来是怎么回事？",
        "肩膀疼痛、活动受限常见于肩周炎，可以先做热敷和爬墙锻炼，疼痛明显时短期服用止痛药，并到骨科就诊明确诊断。",
    ),
    dialogue(1, "写一首关于春天的诗", "春风轻轻地吹过原野，" * 30 + "真好。", "belle", pool="general"),
]
QUESTIONS = [Question(id="webmedqa:9", source="webmedqa", question=LEAK, references=("先查血常规。",))]


def finish(folder: Path, stage: str, config: msgspec.Struct | dict | None = None, inputs: dict | None = None, **facts) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    made = Manifest(
        stage=stage,
        fingerprint="f",
        config=msgspec.to_builtins(config or {}),
        seed=0,
        inputs=inputs or {},
        files={"medical/clinic.csv": "x", "books/本草.txt": "x"} if stage == "ingest" else {},
        versions={},
        num_in=0,
        num_out=0,
        dropped={},
        facts=facts,
        outputs={},
        seconds=0.0,
    )
    (folder / MANIFEST).write_bytes(msgspec.json.encode(made))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """ingest → curate → score → mix → sft, and books. Curation is the true one, in memory."""
    runs = tmp_path_factory.mktemp("runs") / "planted"
    sources = [{"name": name, "path": f"medical/{name}.csv"} for name in ("clinic", "belle", "tcm", "webmedqa")]
    ingest = finish(
        runs / "ingest-1", "ingest", {"sources": sources}, sources={"clinic": {"format": "toyhom_csv", "encodings": {"gb18030": 1}}}
    )
    write(ingest / "dialogues.jsonl", RECORDS)
    row = Reject(
        id="clinic:10", source="clinic", origin="medical/clinic.csv:11", stage="ingest", reason="missing_answer", detail="answer is empty",
        record={"title": "头痛", "answer": "", "电话": MOBILE},
    )  # fmt: skip
    write(ingest / "rejects.jsonl", [row])
    write(ingest / "questions.jsonl", QUESTIONS)
    book = Document(id="tcm:1", source="tcm", origin="books/本草.txt:1", text="<篇名>上卷…")
    write(ingest / "books.jsonl", [book])
    chapter = msgspec.structs.replace(book, id="tcm:本草/1", text="人参味甘微寒。" * 9, book="本草", chapter="上卷", edits=("urls",))
    stub = Reject(
        id="tcm:本草/2", source="tcm", origin=book.origin, stage="books", reason="short_chapter", detail="3 characters", record=None
    )
    books = finish(runs / "books-1", "books", inputs={"ingest": "ingest-1"})
    write(books / "documents.jsonl", [chapter])
    write(books / "rejects.jsonl", [stub])
    config = curate.Config()
    outcomes = list(curate.curate_records(RECORDS, QUESTIONS, config))
    kept = [outcome for outcome in outcomes if isinstance(outcome, Dialogue)]
    curated = finish(runs / "curate-1", "curate", config, {"ingest": "ingest-1"}, boilerplate=[])
    for pool in ("medical", "general"):
        write(curated / f"{pool}.jsonl", [record for record in kept if record.pool == pool])
    write(curated / "rejects.jsonl", [outcome for outcome in outcomes if isinstance(outcome, Reject)])
    score = finish(runs / "score-1", "score", {"threshold": 0.5}, {"curate": "curate-1", "reward": "reward-1"}, threshold=0.5)
    medical = [record for record in kept if record.pool == "medical"]
    write(
        score / "scores.jsonl", [Score(id=record.id, metric="reward", value=0.1 if record.id == "clinic:8" else 1.25) for record in medical]
    )
    low = next(record for record in medical if record.id == "clinic:8")
    write(score / "rejects.jsonl", [Reject(id=low.id, stage="score", reason="low_reward", detail="0.1000 < 0.5000", record=low)])
    mix = finish(runs / "mix-1", "mix", inputs={"curate": "curate-1", "score": "score-1"})
    write(mix / "train.jsonl", [record for record in medical if record.id in ("clinic:1", "clinic:3")])
    write(mix / "validation.jsonl", [record for record in medical if record.id == "clinic:9"])
    finish(runs / "sft-1", "sft", {"pools": ["medical"]}, {"mix": "mix-1"})
    return runs


def told(run: Path, query: str, **more) -> Story:
    (story,) = explain(run, query, **more)
    return story


def step(story: Story, stage: str) -> Step:
    return next(step for step in story.steps if step.stage == stage)


def test_a_kept_record_is_followed_to_the_end(run):
    story = told(run, "clinic:1")
    assert (story.origin, story.kind, story.pool) == ("medical/clinic.csv:2", "dialogue", "medical")
    assert [(step.stage, step.outcome) for step in story.steps] == [
        ("ingest", "kept"), ("curate", "kept"), ("score", "kept"), ("mix", "kept"), ("sft", "used")
    ]  # fmt: skip
    assert "格式 / format toyhom_csv" in step(story, "ingest").notes
    assert step(story, "score").detail == "reward 1.2500" and step(story, "score").thresholds == {"threshold": 0.5}
    assert "train" in step(story, "mix").detail and "trained on" in step(story, "sft").detail
    assert "validation" in step(told(run, "clinic:9"), "mix").detail


def test_a_rule_is_told_with_its_span_and_what_else_it_looked_at(run):
    curated = step(told(run, "clinic:2"), "curate")
    assert (curated.outcome, curated.reason) == ("dropped", "cut_off")
    assert curated.excerpt == "建议您多喝水，好好休息，【以及】"


def test_a_rule_is_told_with_the_threshold_in_force(run):
    story = told(run, "好的。", is_text=True, pool="general")
    assert step(story, "curate").reason == "short_answer"
    assert step(story, "curate").thresholds["min_answer_chars"] == curate.Config().general.min_answer_chars


def test_each_repair_shows_what_it_changed(run):
    curated = step(told(run, "clinic:3"), "curate")
    assert curated.outcome == "kept"
    changes = {edit.repair: edit.change for edit in curated.edits}
    assert "[-１００-]{+100+}" in changes["full_width"]
    assert "可以[-,-]{+，+}每天" in changes["half_width_marks"]
    assert [edit.turn for edit in curated.edits] == [1, 1]


@pytest.mark.parametrize(("query", "reason"), [("clinic:4", "exact_duplicate"), ("clinic:5", "near_duplicate")])
def test_a_duplicate_shows_its_keeper(run, query, reason):
    curated = step(told(run, query), "curate")
    assert (curated.reason, curated.other.id, curated.other.fate) == (reason, "clinic:1", "kept")
    assert GOOD[:40] in curated.other.text
    assert (curated.other.similarity is None) == (reason == "exact_duplicate")
    assert curated.other.similarity is None or 0.8 <= curated.other.similarity < 1
    assert reason == "exact_duplicate" or curated.thresholds["min_similarity"] == 0.8


def test_a_leak_shows_the_benchmark_question(run):
    curated = step(told(run, "clinic:6"), "curate")
    assert curated.reason == "in_benchmark"
    assert (curated.other.id, curated.other.fate) == ("webmedqa:9", "exact")
    assert LEAK in curated.other.text and "gram_chars" in curated.thresholds


def test_personal_data_are_placed_but_never_shown(run):
    for arguments in ({}, {"verbose": True}):
        stories = explain(run, "clinic:7", **arguments)
        curated = step(stories[0], "curate")
        assert curated.reason == "personal_data" and "mobile" in curated.detail
        assert "打我的电话" in curated.excerpt and f"【{mask(MOBILE)}】" in curated.excerpt
        assert MOBILE not in show.text(stories) + show.as_json(stories)


def test_a_name_of_the_question_is_shown_nowhere_in_the_answer(run):
    story = told(run, "王建国您好,先吃清淡的,王建国三天不好就到医院检查，以及", question="我叫王建国，胃疼两天了", verbose=True)
    assert step(story, "curate").reason == "personal_data"
    assert any("某某您好" in edit.change for edit in step(story, "curate").edits)
    assert "王建国" not in show.text([story]) + show.as_json([story])


def test_a_low_reward_is_told_with_the_threshold(run):
    story = told(run, "clinic:8")
    assert step(story, "curate").outcome == "kept"
    last = story.steps[-1]
    assert (last.stage, last.outcome, last.reason, last.thresholds) == ("score", "dropped", "low_reward", {"threshold": 0.5})
    assert "0.1000 < 0.5000" in show.text([story])


def test_a_loop_of_the_general_pool(run):
    assert step(told(run, "belle:1"), "curate").reason == "loop"


@pytest.mark.parametrize("query", ["clinic:10", "medical/clinic.csv:11", "clinic.csv:11", "/data/raw/medical/clinic.csv:11"])
def test_a_row_that_ingest_rejected_is_found_by_place_too(run, query):
    stories = explain(run, query)
    (story,) = stories
    assert (story.kind, story.source) == ("row", "clinic")
    assert (story.steps[0].stage, story.steps[0].reason, story.steps[0].detail) == ("ingest", "missing_answer", "answer is empty")
    assert MOBILE not in show.text(stories) + show.as_json(stories)


@pytest.mark.parametrize("query", ["tcm:1", "本草.txt:1"])
def test_a_book_tells_its_chapters(run, query):
    told_of = step(told(run, query), "books")
    assert told_of.outcome == "kept"
    assert told_of.notes == ("✓ tcm:本草/1  上卷（63 字）urls", "✗ tcm:本草/2  short_chapter: 3 characters")


def test_a_chapter_is_found_by_its_id(run):
    story = told(run, "tcm:本草/1")
    assert story.kind == "chapter" and not any("urls" in note for note in step(story, "ingest").notes), "an edit of another stage"
    assert step(story, "books").notes == ("✓ tcm:本草/1  上卷（63 字）urls",)
    assert told(run, "tcm:本草/2").steps[0].reason == "short_chapter"


def test_verbose_lists_the_rules_that_were_passed(run):
    assert step(told(run, "clinic:1"), "curate").checks == ()
    checks = step(told(run, "clinic:1", verbose=True), "curate").checks
    assert {check.rule for check in checks} == set(curate.Config().rules)
    assert not any(check.seen for check in checks)
    short = next(check for check in checks if check.rule == "short_answer")
    assert short.thresholds["min_answer_chars"] == curate.Config().medical.min_answer_chars


@pytest.mark.parametrize(
    ("query", "suggested"),
    [("clinic:99", "clinic:10"), ("clinic.csv:80", "medical/clinic.csv:11"), ("clinik:1", "clinic:…"), ("tcm:本草/9", "tcm:本草/1")],
)
def test_what_is_not_there_is_answered_with_what_is_near(run, query, suggested):
    with pytest.raises(ValueError, match="no such record") as raised:
        explain(run, query)
    assert suggested in str(raised.value)


def test_several_records_of_one_line_are_listed(tmp_path):
    ingest = finish(tmp_path / "ingest-1", "ingest", {"sources": []})
    twins = [msgspec.structs.replace(RECORDS[0], id=f"clinic:{row}") for row in (1, 2)]
    write(ingest / "dialogues.jsonl", twins)
    stories = explain(tmp_path, "clinic.csv:2")
    assert [story.id for story in stories] == ["clinic:1", "clinic:2"]
    assert "give one id" in show.text(stories)


def test_a_text_is_judged_and_every_objection_named(run):
    story = told(run, "您好,请加微信doctor88888,我告诉您，以及", question="胃痛怎么办？")
    curated = step(story, "curate")
    assert curated.outcome == "dropped" and curated.reason == "personal_data"
    assert "doctor88888" not in show.text([story])
    assert [check.rule for check in curated.checks] == ["cut_off"], "what else would have dropped it"
    assert any(edit.repair == "half_width_marks" for edit in curated.edits)
    assert step(told(run, GOOD), "curate").outcome == "kept"


def test_a_text_is_compared_with_the_benchmark(run):
    curated = step(told(run, GOOD, question=LEAK, is_text=True), "curate")
    assert (curated.reason, curated.other.id) == ("in_benchmark", "webmedqa:9")


def test_the_command_line(run, capsys, monkeypatch):
    assert main(["explain", str(run), "clinic:2"]) == 0
    assert "cut_off" in capsys.readouterr().out
    assert main(["explain", str(run), "clinic:2", "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out, type=list[Story]) == explain(run, "clinic:2")
    monkeypatch.setattr(sys, "stdin", io.StringIO("clinic:2"))
    assert main(["explain", str(run), "-"]) == 0
    assert "文本 text" in capsys.readouterr().out, "what comes through standard input is a text, whatever it looks like"
    assert main(["explain", str(run), "clinic:77"]) == 1
    assert "no such record" in capsys.readouterr().err


def test_a_text_is_judged_by_a_recipe_that_has_not_run(tmp_path, samples):
    recipe = tmp_path / "small.toml"
    recipe.write_text(f"""
        data.root = "{samples}"
        ingest.sources = [{{name = "clinic", path = "medical/clinic.json"}}]
        sft.pools = ["medical"]
        [curate.medical]
        min_answer_chars = 12
        [arms.strict.curate.medical]
        min_answer_chars = 99
        [arms.masked.curate]
        personal_data = "mask"
    """)
    text = "每天喝够水，少吃盐，按时量血压，并且做好记录。"
    assert step(told(recipe, text, runs=tmp_path), "curate").outcome == "kept"
    strict = step(told(recipe, text, runs=tmp_path, arm="strict"), "curate")
    assert (strict.reason, strict.thresholds["min_answer_chars"]) == ("short_answer", 99)
    masked = step(told(recipe, f"{text}请打电话{MOBILE}预约。", runs=tmp_path, arm="masked"), "curate")
    assert masked.outcome == "kept" and [edit.repair for edit in masked.edits] == ["personal_data"]
    loose = step(told(recipe, text, runs=tmp_path, overrides=["curate.medical.min_answer_chars=80"]), "curate")
    assert loose.thresholds["min_answer_chars"] == 80
    with pytest.raises(ValueError, match="run it first"):
        explain(recipe, "clinic:1", runs=tmp_path)
    with pytest.raises(ValueError, match="no arm 'x'; known: strict, masked"):
        explain(recipe, text, runs=tmp_path, arm="x")


def test_settings_of_a_run_folder_cannot_be_changed(run):
    with pytest.raises(ValueError, match="give the recipe"):
        explain(run, "clinic:1", overrides=["curate.medical.min_answer_chars=80"])


# ---- which folders


def test_the_newest_folders_that_belong_together(tmp_path):
    for number, (name, stage, inputs) in enumerate(
        [
            ("ingest-a", "ingest", {}),
            ("curate-a", "curate", {"ingest": "ingest-a"}),
            ("score-a", "score", {"curate": "curate-a"}),
            ("ingest-b", "ingest", {}),
            ("score-b", "score", {"curate": "curate-b"}),
            ("curate-arm", "curate@arm", {"ingest": "ingest-b@1234"}),
        ]
    ):
        os.utime(finish(tmp_path / name, stage, inputs=inputs) / MANIFEST, (number, number))
    (tmp_path / "curate-c.partial").mkdir()
    assert {stage: folder.path.name for stage, folder in files.of_folder(tmp_path).items()} == {
        "curate": "curate-a", "ingest": "ingest-a", "score": "score-a"
    }  # fmt: skip
    assert {stage: folder.path.name for stage, folder in files.of_folder(tmp_path, "arm").items()} == {
        "curate": "curate-arm", "ingest": "ingest-b"
    }  # fmt: skip
    assert set(files.of_folder(tmp_path / "curate-a")) == {"curate", "ingest"}, "one stage's folder, and what it was made from"
    with pytest.raises(ValueError, match="known: arm"):
        files.of_folder(tmp_path, "other")
    with pytest.raises(ValueError, match="no finished stage"):
        files.of_folder(tmp_path / "curate-c.partial")


def test_a_folder_of_another_version_is_told_from_its_files(run, tmp_path):
    folder = tmp_path / "curate-1"
    folder.symlink_to(run / "curate-1")
    old = tmp_path / "old"
    for name in ("ingest-1", "curate-1"):
        (old / name).mkdir(parents=True)
        for file in (run / name).iterdir():
            (old / name / file.name).symlink_to(file)
    (old / "curate-1" / MANIFEST).unlink()
    finish(old / "curate-1", "curate", {"unheard_of": 1}, {"ingest": "ingest-1"})
    curated = step(told(old, "clinic:2"), "curate")
    assert curated.reason == "cut_off" and not curated.thresholds
    assert "unheard_of" in curated.notes[0]


# ---- the search


@given(st.lists(st.text(max_size=30), max_size=30), st.data())
def test_search_finds_what_reading_finds(tmp_path_factory, texts, data):
    path = tmp_path_factory.mktemp("search") / "dialogues.jsonl"
    turns = [(Turn("user", text),) for text in texts]
    write(path, [Dialogue(id=f"s:{text[:2]}", origin=f"f:{text[:1]}", turns=asked) for text, asked in zip(texts, turns, strict=True)])
    wanted = data.draw(st.sampled_from(texts)) if texts else "x"
    found = [hit.head.id for hit in files.search([path, path.with_name("none.jsonl")], f"s:{wanted[:2]}")]
    by_origin = [hit.head.id for hit in files.search([path], f"f:{wanted[:1]}")]
    assert found == [f"s:{text[:2]}" for text in texts if text[:2] == wanted[:2]]
    assert by_origin == [f"s:{text[:2]}" for text in texts if text[:1] == wanted[:1]]


def test_an_id_in_a_text_is_no_hit(tmp_path):
    write(tmp_path / "d.jsonl", [dialogue(1, '{"id":"clinic:2"}', '"id":"clinic:2" clinic:2"')])
    assert not list(files.search([tmp_path / "d.jsonl"], "clinic:2"))
    assert files.line_of(tmp_path / "d.jsonl", "clinic:2") is None


# ---- changes


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("患者,男", "患者，男", "患者[-,-]{+，+}男"),
        ("一\u200b二", "一二", "一[-\\u200b-]二"),
        ("一\n\n\n二", "一\n\n二", "一↵↵[-↵-]二"),
    ],
)
def test_changes_are_shown_in_place(before, after, shown):
    assert judge.change(before, after) == shown


@given(st.text("甲乙丙1, ", max_size=60), st.text("甲乙丙1, ", max_size=60))
def test_equal_texts_have_no_change(before, after):
    assert (judge.change(before, after) == "") == (before == after)
