"""Exams: every row accounted for, the words of C-Eval and CMMLU, the option with the highest likelihood, honest statistics."""

import json
import math
import zipfile
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import exam, records
from medchatzh.cli import main
from medchatzh.exam import Answer
from medchatzh.ingest import papers
from medchatzh.metrics.exam import Item, load, macro, mcnemar, paired_interval, wilson
from medchatzh.metrics.statistics import Interval
from medchatzh.records import Reject
from medchatzh.run import Context

CEVAL = "id,question,A,B,C,D,answer,explanation\r\n0,脾虚宜____,健脾,清热,补肾,化痰,A,1. 健脾\r\n1,高血压宜____,高盐,低盐,熬夜,饮酒,B,\r\n"
CMMLU = ",Question,A,B,C,D,Answer\n0,属于蝶骨上的结构为,垂体窝,棘孔,破裂孔,视神经管,B\n1,“血之府”是指,肝,脉,冲脉,心,B\n"


def read(folder: Path, *sources: papers.Source) -> tuple[list[Item], list[Reject], dict]:
    config = papers.Config(sources=sources)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    placed, files = papers.placed(config, folder)
    result = papers.run(placed, {}, out, Context(), files=files)
    items, rejects = list(records.read(out / "papers.jsonl", Item)), list(records.read(out / "rejects.jsonl", Reject))
    assert (result.num_in, result.num_out) == (len(items) + len(rejects), len(items))
    assert result.dropped == Counter(reject.reason for reject in rejects)
    return items, rejects, result.facts


def source(path: str, **more) -> papers.Source:
    return papers.Source(name="exam", path=path, **more)


def test_c_eval_as_it_is_published(tmp_path):
    with zipfile.ZipFile(tmp_path / "ceval.zip", "w") as archive:
        for name in ("dev/physician_dev.csv", "val/physician_val.csv", "val/law_val.csv"):
            archive.writestr(name, CEVAL)
        archive.writestr(
            "test/physician_test.csv", CEVAL.replace(",answer,explanation", "").replace(",A,1. 健脾", "").replace(",B,\r", "\r")
        )
    items, rejects, facts = read(tmp_path, source("*.zip", subjects=("medical",)))
    assert rejects == [] and facts["num_files_of_other_subjects"] == 1
    assert [(item.split, item.answer) for item in items] == [
        ("dev", "A"),
        ("dev", "B"),
        ("test", ""),
        ("test", ""),
        ("val", "A"),
        ("val", "B"),
    ]
    assert items[-1] == Item(
        id="exam:physician/val/1",
        source="exam",
        origin="ceval.zip!val/physician_val.csv:3",
        category="physician",
        split="val",
        style="ceval",
        question="高血压宜____",
        options={"A": "高盐", "B": "低盐", "C": "熬夜", "D": "饮酒"},
        answer="B",
    )


def test_an_exam_elsewhere_leaves_no_folder_of_this_machine(tmp_path):
    (tmp_path / "far" / "dev").mkdir(parents=True)
    (tmp_path / "far" / "dev" / "anatomy.csv").write_text(CMMLU, "utf-8")
    (tmp_path / "near").mkdir()
    for path in (f"{tmp_path}/far/*/*.csv", f"{tmp_path}/far/dev/anatomy.csv"):
        config, files = papers.placed(papers.Config(sources=(source(path),)), tmp_path / "near")
        papers.run(config, {}, tmp_path, Context(), files=files)
        assert str(tmp_path) not in str(config) + str(list(files))
        assert {item.origin.rpartition(":")[0] for item in records.read(tmp_path / "papers.jsonl", Item)} == set(files)
    with pytest.raises(ValueError, match="no file matches none.csv in "):
        papers.placed(papers.Config(sources=(source(f"{tmp_path}/none.csv"),)), tmp_path)


def test_a_recipe_of_exams_and_checkpoints_alone(checkpoint, tmp_path, capsys):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "anatomy.csv").write_text(CMMLU, "utf-8")
    (tmp_path / "test_anatomy.csv").write_text(CMMLU, "utf-8")
    recipe = tmp_path / "exams.toml"
    exams = f'[data]\nroot = "{tmp_path}"\n[[papers.sources]]\nname = "CMMLU"\npath = "**/*anatomy.csv"\n'
    recipe.write_text(exams + f'[exam]\nshots = [0]\ncheckpoints = {{ tiny = "{checkpoint}" }}\n', "utf-8")
    runs = ["--runs", str(tmp_path / "runs"), "--threads", "1"]
    assert main(["exam", str(recipe), *runs]) == 0
    assert load(Path(capsys.readouterr().out.split()[-1]) / "exam.json").systems[0] == "tiny"
    assert main(["run", str(recipe), *runs]) == 0 and "report.html" in capsys.readouterr().out
    assert main(["evaluate", str(recipe), *runs]) == 1 and "holds exams only" in capsys.readouterr().err
    recipe.write_text(exams, "utf-8")
    assert main(["exam", str(recipe), *runs]) == 1 and "name a checkpoint in exam.checkpoints" in capsys.readouterr().err


def test_cmmlu_as_it_is_published_in_either_layout(tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "anatomy.csv").write_text(CMMLU, "utf-8")
    (tmp_path / "test_anatomy.csv").write_text(CMMLU, "gb18030")
    items, rejects, _ = read(tmp_path, source("**/*.csv"))
    assert rejects == [] and {(item.style, item.category) for item in items} == {("cmmlu", "anatomy")}
    assert [(item.split, item.number, item.answer) for item in items] == [
        ("dev", "0", "B"),
        ("dev", "1", "B"),
        ("test", "0", "B"),
        ("test", "1", "B"),
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("dev/physician_dev.csv", ("dev", "physician")),
        ("a.zip!val/clinical_medicine_val.csv", ("val", "clinical_medicine")),
        ("cmmlu/test_latest.csv", ("test", "latest")),
        ("data/dev/contest.csv", ("dev", "contest")),
        ("CMExam_train.csv", ("train", "CMExam")),
        ("train.jsonl", ("train", "")),
        ("exam.json", ("test", "exam")),
    ],
)
def test_a_name_tells_split_and_subject(name, told):
    assert papers.told_by_name(name) == told


ROWS = {
    '{"question": "五选一", "A": "甲", "B": "乙", "C": "丙", "D": "丁", "E": "戊", "answer": "E"}': ("ABCDE", "E"),
    '{"Question": "CMExam", "Options": "A 甲\\nB 乙\\nC 丙\\nD 丁\\nE 戊", "Answer": "C", "Explanation": "x"}': ("ABCDE", "C"),
    '{"question": "MedQA", "options": {"A": "甲", "B": "乙"}, "answer": "乙", "answer_idx": "B"}': ("AB", "B"),
    '{"question": "列表", "options": ["甲", "乙", "丙"], "answer": "丙"}': ("ABC", "C"),
    '{"question": "缺一项", "A": "甲", "B": "", "C": null, "D": "丁", "answer": "d."}': ("AD", "D"),
    '{"question": "没有答案", "A": "甲", "B": "乙"}': ("AB", ""),
    '{"question": "多选", "A": "甲", "B": "乙", "answer": "A,B"}': "several_answers",
    '{"question": "答案不在", "A": "甲", "B": "", "C": "丙", "answer": "B"}': "wrong_answer",
    '{"question": "一项", "A": "甲", "answer": "A"}': "too_few_options",
    '{"question": " ", "A": "甲", "B": "乙", "answer": "A"}': "no_question",
    '{"frage": "x", "A": "甲", "B": "乙"}': "unknown_format",
    '{"question": {"x": 1}, "A": "甲", "B": "乙"}': "unknown_format",
    '["question"]': "unknown_format",
    '{"question": "断了", "A": "甲': "broken_row",
}


def test_each_row_of_any_form_is_kept_or_set_aside_with_its_reason(tmp_path):
    (tmp_path / "exam_test.jsonl").write_text("\n".join(ROWS), "utf-8")
    items, rejects, _ = read(tmp_path, source("*.jsonl"))
    found = {int(item.origin.rpartition(":")[2]): ("".join(item.options), item.answer) for item in items}
    found |= {int(reject.origin.rpartition(":")[2]): reject.reason for reject in rejects}
    assert [found[line] for line in range(1, len(ROWS) + 1)] == list(ROWS.values())
    assert all(one.origin.startswith("exam_test.jsonl:") and one.source == "exam" for one in (*items, *rejects))


def test_repeated_questions_other_subjects_and_foreign_files_are_told(tmp_path):
    row = '{"id": 7, "question": "问", "A": "甲", "B": "乙", "answer": "A", "subject": "%s"}\n'
    (tmp_path / "mixed.jsonl").write_text(row % "内科" + row % "内科" + row % "法律", "utf-8")
    (tmp_path / "notes.csv").write_text("nothing", "utf-8")
    items, rejects, _ = read(tmp_path, source("*", subjects=("内科", "notes")))
    assert [item.id for item in items] == ["exam:内科/test/7"]
    assert [(reject.reason, reject.origin) for reject in rejects] == [
        ("repeated_question", "mixed.jsonl:2"),
        ("other_subject", "mixed.jsonl:3"),
        ("unknown_format", "notes.csv:1"),
    ]
    with pytest.raises(ValueError, match="papers: no question in 1 files"):
        read(tmp_path, source("notes.csv"))
    with pytest.raises(ValueError, match="no file matches"):
        read(tmp_path, source("*.parquet"))


@given(st.binary(max_size=400), st.sampled_from(["a.csv", "a.jsonl", "a.json", "a.zip"]))
def test_no_bytes_make_it_fail(tmp_path_factory, data, name):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / name).write_bytes(CMMLU.encode() + data if name == "a.csv" else data)
    for entry in papers.read(source("*"), name, folder / name):
        assert entry is None or entry.origin.startswith(name)


def item(number: int, split: str = "test", **more) -> Item:
    options = {"A": "健脾", "B": "清热解毒", "C": f"补肾{number}", "D": "化痰"}
    fields = {"id": f"exam:anatomy/{split}/{number}", "source": "exam", "category": "anatomy", "split": split, "style": "cmmlu"}
    fields |= {"question": f"第{number}题：脾虚宜", "options": options, "answer": "ABCD"[number % 4]}
    return Item(**(fields | more))


def test_prompts_are_those_of_the_publishers():
    shown = [item(0, "dev")]
    assert exam.prompt(item(1), shown, "letter") == (
        "以下是关于解剖学的单项选择题，请直接给出正确答案的选项。\n\n"
        "题目：第0题：脾虚宜\nA. 健脾\nB. 清热解毒\nC. 补肾0\nD. 化痰\n答案是：A\n\n"
        "题目：第1题：脾虚宜\nA. 健脾\nB. 清热解毒\nC. 补肾1\nD. 化痰\n答案是："
    )
    asked = exam.prompt(item(1, style="ceval", category="physician"), [], "letter")
    assert asked.startswith("以下是中国关于医师资格考试的单项选择题，请选出其中的正确答案。\n\n第1题：脾虚宜\nA. 健脾") and asked.endswith(
        "\n答案："
    )
    assert exam.prompt(item(1), shown, "text").endswith("\n\n题目：第0题：脾虚宜\n答案是：健脾\n\n题目：第1题：脾虚宜\n答案是：")
    assert exam.continuations(item(1), "letter") == ["A", "B", "C", "D"] and exam.continuations(item(1), "text")[2] == "补肾1"


@pytest.fixture
def hold(tmp_path, checkpoint):
    """Hold an exam: (summary, answers, rejects, folder)."""
    numbers = iter(range(100))

    def hold(items: list[Item], config: exam.Config, systems: tuple[str, ...] = ("ours",), cache: Path | None = None):
        folder = tmp_path / f"run{next(numbers)}"
        (folder / "papers").mkdir(parents=True)
        (folder / "exam").mkdir()
        records.write(folder / "papers" / "papers.jsonl", items)
        inputs = {"papers": folder / "papers"} | {f"model@{name}": checkpoint for name in systems}
        result = exam.run(config, inputs, folder / "exam", Context(threads=1, seed=3, cache=cache or folder / "cache"))
        answers = list(records.read(folder / "exam" / "answers.jsonl", Answer))
        rejects = list(records.read(folder / "exam" / "rejects.jsonl", Reject))
        assert result.num_out == sum(bool(answer.setting) for answer in answers)
        assert result.num_in == result.num_out + len(rejects)
        return load(folder / "exam" / "exam.json"), answers, rejects, folder / "exam"

    return hold


SMALL = exam.Config(shots=(0, 1), by=("letter", "text"), max_tokens=256)
ITEMS = [*(item(number, "dev") for number in range(3)), *(item(number) for number in range(8))]


def test_the_likeliest_option_is_chosen_in_every_setting(hold, checkpoint):
    import torch

    from medchatzh import models

    summary, answers, rejects, _ = hold(ITEMS, SMALL)
    assert rejects == [] and summary.settings == ("letter, 0 shots", "letter, 1 shots", "text, 0 shots", "text, 1 shots")
    model, (tokenizer, _) = models.load_causal(checkpoint), models.load_tokenizer(checkpoint)
    for answer in answers:
        if not answer.setting:
            continue
        asked = next(one for one in ITEMS if one.id == answer.id)
        assert answer.chosen == max("ABCD", key=lambda letter: answer.scores[letter]) and answer.right == (answer.chosen == asked.answer)
        by, shots = answer.setting.split(", ")
        assert answer.num_shots == int(shots[0])
        context = exam.prompt(asked, ITEMS[: answer.num_shots], by)
        start = len(tokenizer(context, add_special_tokens=False)["input_ids"])
        for letter, text in asked.options.items():
            whole = tokenizer(context + (letter if by == "letter" else text), add_special_tokens=False)["input_ids"]
            with torch.inference_mode():
                chances = torch.log_softmax(model(torch.tensor([whole])).logits[0], -1)
            value = sum(float(chances[place - 1, whole[place]]) for place in range(start, len(whole)))
            assert answer.scores[letter] == pytest.approx(value / (1 if by == "letter" else len(text)), abs=1e-5)


def test_tables_add_up_and_a_model_of_random_weights_is_near_a_guess(hold):
    items = [*ITEMS[:3], *(item(number, category=subject) for number in range(120) for subject in ("anatomy", "virology"))]
    items = [msgspec.structs.replace(one, id=f"{one.id}-{one.category}") for one in items]
    summary, answers, _, _ = hold(items, exam.Config(shots=(0,)), ("ours", "other"))
    (held,) = summary.exams
    assert (held.num_questions, held.num_scorable, held.num_examples, held.chance) == (240, 240, 3, 0.25)
    rows = {(row.system, row.subject): row for row in summary.accuracies}
    for system in summary.systems:
        own = [answer.right for answer in answers if answer.system == system]
        micro, parts = rows[system, "micro"], [rows[system, subject] for subject in held.subjects]
        assert (micro.num_right, micro.n) == (sum(own), 240) == (sum(part.num_right for part in parts), sum(part.n for part in parts))
        assert rows[system, "macro"].mean == pytest.approx(sum(part.mean for part in parts) / 2)
        assert micro.low < 0.25 < micro.high, "a guess"
    assert {row.other: row.verdict for row in summary.differences} == dict.fromkeys(
        ("other", "same_letter", "random", "longest_option"), "not distinguishable"
    )
    same = next(row for row in summary.differences if row.other == "other")
    assert (same.mean, same.only_main, same.only_other, same.p_value) == (0, 0, 0, 1), "the same checkpoint twice"


def test_floors_read_no_question():
    items = [item(number, answer="C" if number % 3 else "B") for number in range(9)]
    assert set(exam.FLOORS["same_letter"](items, 0)) == {"C"}
    assert set(exam.FLOORS["longest_option"](items, 0)) == {"B"}
    drawn = list(exam.FLOORS["random"](items * 40, 1))
    assert drawn[:9] == drawn[9:18], "by the id"
    many = Counter(exam.FLOORS["random"]([item(number) for number in range(2000)], 1))
    assert set(many) == {*"ABCD"} and min(many.values()) > 400


def test_questions_that_fit_not_are_named_and_examples_make_room(hold):
    long = item(20, question="脾" * 300)
    summary, answers, rejects, _ = hold([*ITEMS, long], exam.Config(shots=(3,)))
    assert [(reject.id, reject.reason) for reject in rejects] == [(long.id, "prompt_too_long")]
    assert summary.unanswered == {"ours, letter, 3 shots": 1}
    shown = {answer.num_shots for answer in answers if answer.setting}
    assert shown and max(shown) < 3
    assert f"shots:{min(shown)}" in summary.signatures["exam"]["letter, 3 shots"]
    assert next(row.n for row in summary.accuracies if row.system == "ours") == 8


def test_choices_without_a_published_answer_go_to_a_submission(hold):
    items = [*ITEMS, *(item(number, "hidden", answer="") for number in range(4))]
    summary, answers, _, folder = hold(items, exam.Config(shots=(0,), splits=("test", "hidden")))
    assert summary.exams[0].num_questions == 12 and summary.exams[0].num_scorable == 8
    submitted = json.loads((folder / "submission-exam-ours-letter-0.json").read_text("utf-8"))
    chosen = {answer.id.rpartition("/")[2]: answer.chosen for answer in answers if answer.split == "hidden" and answer.setting}
    assert submitted == {"anatomy": chosen} and list(chosen) == ["0", "1", "2", "3"]
    assert all(answer.right is None for answer in answers if answer.split == "hidden")


def test_a_killed_exam_goes_on_and_ends_in_the_same_bytes(hold, tmp_path, monkeypatch):
    from medchatzh.models import likelihood

    monkeypatch.setitem(likelihood.BATCH_TOKENS, "cpu", 200)
    config = exam.Config(shots=(0, 1), max_tokens=256)
    *_, whole = hold(ITEMS, config)
    done: list[int] = []
    real = likelihood.Reader._read

    def dying(self, requests, num_shared):
        done.append(len(requests))
        if len(done) == 4:
            raise KeyboardInterrupt
        return real(self, requests, num_shared)

    monkeypatch.setattr(likelihood.Reader, "_read", dying)
    with pytest.raises(KeyboardInterrupt):
        hold(ITEMS, config, cache=tmp_path / "kept")
    newest = max((tmp_path / "kept").glob("exam-*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    with newest.open("ab") as file:
        file.write(b'[9,{"3":[0,[-1')  # torn by the kill
    *_, again = hold(ITEMS, config, cache=tmp_path / "kept")
    assert (again / "answers.jsonl").read_bytes() == (whole / "answers.jsonl").read_bytes()
    assert (again / "exam.json").read_bytes() == (whole / "exam.json").read_bytes()
    assert sum(done) - done[3] == 16, "no question twice but those of the batch that died"
    monkeypatch.setattr(likelihood, "Reader", None)
    *_, third = hold(ITEMS, config, cache=tmp_path / "kept")  # no model is loaded where all is known
    assert (third / "answers.jsonl").read_bytes() == (whole / "answers.jsonl").read_bytes()


def test_an_exam_needs_papers_and_a_checkpoint(tmp_path, hold):
    with pytest.raises(ValueError, match="exam needs the input papers"):
        exam.run(exam.Config(), {"papers": tmp_path}, tmp_path, Context())
    with pytest.raises(ValueError, match="no question of the splits nowhere"):
        hold(ITEMS, exam.Config(splits=("nowhere",)))
    with pytest.raises(ValueError, match="'random' is the name of a floor"):
        hold(ITEMS, exam.Config(), ("random",))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shots": ()}, "shots: []: give one or more"),
        ({"shots": (-1,)}, "must not be negative"),
        ({"splits": ("dev",)}, "'dev' holds the examples"),
        ({"by": ("letter", "letter")}, "each once"),
        ({"checkpoints": {"a b": "x"}}, "checkpoints.a b"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        exam.Config(**fields)


@pytest.mark.parametrize(
    ("num_right", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (1, 10, 0.0179, 0.4042), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilsons_interval_has_its_published_values(num_right, n, low, high):
    """81 of 263: Newcombe 1998, table I, method 3; the others as R's prop.test(correct = FALSE) gives them."""
    found = wilson(num_right, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 200))
def test_intervals_hold_their_means_and_stay_in_range(first, second, rest):
    share = wilson(first, first + rest)
    assert 0 <= share.low <= share.mean <= share.high <= 1
    found = paired_interval(first, second, first + second + rest)
    assert -1 <= found.low <= found.high <= 1
    swapped = paired_interval(second, first, first + second + rest)
    assert (-swapped.mean, -swapped.high, -swapped.low) == pytest.approx(found[:3])


@pytest.mark.parametrize(("first", "second", "p_value"), [(0, 0, 1.0), (5, 0, 0.0625), (8, 2, 0.109375), (3, 3, 1.0), (9, 1, 22 / 1024)])
def test_mcnemars_test_is_the_binomial_one(first, second, p_value):
    assert mcnemar(first, second) == mcnemar(second, first) == pytest.approx(p_value)
    assert math.isfinite(mcnemar(first * 100, second * 100)), "of thousands of questions too"


def test_a_mean_of_one_subject_is_that_subject():
    part = wilson(3, 10)
    assert macro([part]) == pytest.approx(part)
    both = macro([part, wilson(30, 100)])
    assert both.high - both.low < part.high - part.low and isinstance(both, Interval) and both.n == 110


def test_real_exams_are_read_whole(shared_data, tmp_path):
    folder = shared_data / "exam"
    if not folder.is_dir():
        pytest.skip(f"no exams at {folder}")
    sources = (
        papers.Source(name="C-Eval", path="exam/ceval.zip", subjects=("medical",)),
        papers.Source(name="CMMLU", path="exam/cmmlu/*.csv", subjects=("medical",)),
    )
    config = papers.Config(sources=sources)
    placed, files = papers.placed(config, shared_data)
    result = papers.run(placed, {}, tmp_path, Context(), files=files)
    assert result.facts["exams"] == {
        "C-Eval": {"num_dev": 15, "num_test_without_answer": 818, "num_val": 90},
        "CMMLU": {"num_dev": 40, "num_test": 1709},
    }
    assert result.dropped == {} and result.num_out == 2672
    subjects = {one.category for one in records.read(tmp_path / "papers.jsonl", Item)}
    assert subjects <= set(papers.MEDICAL) and subjects <= set(exam.SUBJECTS)
