"""`medchatzh compare`: files in, scores and report out, without recipe, model or torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medchatzh.cli import main
from medchatzh.metrics.summary import load

SET = ["--set", "evaluate.num_resamples=100"]


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    rows = []
    for number in range(8):
        rows += [
            f"{number}\t{int(label == 0)}\t内科\t第{number}种病怎么办？\t第{number}种病的第{label}种答案，多休息。" for label in range(5)
        ]
    path = tmp_path / "medQA.test.txt"
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    good = [{"id": str(number), "answer": f"第{number}种病的第0种答案，多休息。"} for number in range(8)]
    (tmp_path / "good.jsonl").write_text("\n".join(json.dumps(row) for row in good), "utf-8")
    bad = [f"{number},第{number}种病怎么办？,不知道" for number in range(6)]
    (tmp_path / "bad.csv").write_text("\n".join(["label,question,predict", *bad, "99,没有的问题,？", "0,第0种病怎么办？,又一次"]), "gbk")
    return [f"good={tmp_path / 'good.jsonl'}", f"bad={tmp_path / 'bad.csv'}"]


def test_scores_and_report_of_files(benchmark, files, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["compare", str(benchmark), *files, "--name", "webMedQA", "--out", str(out), *SET]) == 0
    told = capsys.readouterr()
    assert (
        "bad: 8 rows, 6 used, 2 questions without, 1 repeated with another answer; set aside: repeated_prediction 1, unknown_question 1"
        in told.err
    )
    assert "good:" not in told.err
    report = Path(told.out.strip())
    text = report.with_name("report.md").read_text("utf-8")
    assert "| bad | 8 | 6 | 2 | 1 | 1 (1 ≠) | 0 | stop 6 | — |" in text
    assert "| medchatzh compare … |" in text
    assert "medchatzh compare medQA.test.txt good=good.jsonl bad=bad.csv --out DIR --name webMedQA --set evaluate.num" in text
    assert "not checked" in text and "0 of 0" not in text
    summary = load(next(out.glob("evaluate-*")) / "summary.json")
    assert summary.systems == ("good", "bad", "canned", "random")
    assert summary.benchmark[0].startswith("webMedQA (stand-in or part: 8 questions")
    means = {(row.system, row.protocol, row.metric): row for row in summary.means}
    assert means["good", "strict", "ROUGE-L"].mean == pytest.approx(100)
    assert means["bad", "strict", "ROUGE-L"].n == 6
    rejects = [json.loads(line) for path in out.glob("*/rejects.jsonl") for line in path.read_text("utf-8").splitlines()]
    assert {reject["reason"] for reject in rejects} == {"no_prediction", "unknown_question", "repeated_prediction", "single_reference"}
    assert "good" in report.read_text("utf-8")
    before = report.stat().st_mtime_ns
    assert main(["compare", str(benchmark), *files, "--name", "webMedQA", "--out", str(out), *SET]) == 0
    assert report.stat().st_mtime_ns == before


def test_a_single_question_has_a_mean_and_no_interval(files, benchmark, tmp_path, capsys):
    alone = tmp_path / "one.txt"
    alone.write_text("\n".join(benchmark.read_text("utf-8").splitlines()[:5]) + "\nrubbish\n", "utf-8")
    assert main(["compare", str(alone), *files, "--out", str(tmp_path / "out"), *SET]) == 0
    report = Path(capsys.readouterr().out.strip()).with_name("report.json").read_text("utf-8")
    assert '"sub": "—"' in report and '"sub": "[' not in report
    assert "（strict 协议，1 题）" in report and " [" not in "".join(line for line in report.splitlines() if "1 题" in line)
    assert "2 − 1 坏行 − 0 重复 − 0 无参考 = 1" in report


def test_empty_answers_are_told_on_the_terminal_and_in_the_report(benchmark, tmp_path, capsys):
    rows = [{"id": str(number), "answer": "多休息。" if number < 3 else ""} for number in range(8)]
    (tmp_path / "mute.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    assert main(["compare", str(benchmark), f"mute={tmp_path / 'mute.jsonl'}", "--out", str(tmp_path / "out"), *SET]) == 0
    told = capsys.readouterr()
    assert "mute: 8 rows, 8 used, 5 empty; set aside: none" in told.err and "warning: most answers of mute are empty" in told.err
    folder = Path(told.out.strip()).parent
    for name in ("report.md", "report.html", "report.json"):
        assert "5 of the 8 answers of mute are empty" in (folder / name).read_text("utf-8")


def test_several_answers_in_rows_of_their_own_are_told_and_in_one_row_are_references(tmp_path, capsys):
    texts = ("多喝水。", "多休息。", "按时吃药。")
    (tmp_path / "mine.jsonl").write_text('{"id": "0", "answer": "多休息。"}', "utf-8")
    rows = [{"id": "0", "question": "头痛怎么办呢？", "answer": answer} for answer in texts]
    means = {}
    for name, given in (("long", rows), ("list", [{"id": "0", "question": "头痛怎么办呢？", "answers": texts}])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in given), "utf-8")
        arguments = [str(tmp_path / f"{name}.jsonl"), f"mine={tmp_path / 'mine.jsonl'}", "--out", str(tmp_path / name), *SET]
        assert main(["compare", *arguments]) == 0
        warned = "2 rows of the benchmark give another answer to a question that came before" in capsys.readouterr().err
        summary = load(next((tmp_path / name).glob("evaluate-*")) / "summary.json")
        means[name] = warned, next(row.mean for row in summary.means if row.system == "mine" and row.metric == "BLEU-1")
    assert means["long"][0] and means["long"][1] < 90 and means["list"] == (False, 100)


def test_a_finished_benchmark_without_questions_is_at_fault(files, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/questions.jsonl").write_text("", "utf-8")
    assert main(["compare", str(tmp_path / "run"), files[0], "--out", str(tmp_path / "out")]) == 1
    assert "the benchmark has no questions (it holds no rows)" in capsys.readouterr().err


def test_nothing_of_it_needs_torch(benchmark, files, tmp_path):
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
from medchatzh.cli import main
sys.exit(main({["compare", str(benchmark), *files, "--out", str(tmp_path / "out"), *SET]!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["good"], "good: write NAME=FILE"),
        (["good=/nowhere"], "good: /nowhere: no such file"),
        (["canned={file}"], "canned: is the name of a floor"),
        (["a={file}", "a={file}"], "two of the files have the same name"),
        (["a={file}", "--set", "evaluate.num_resample=5"], "did you mean evaluate.num_resamples"),
    ],
)
def test_mistakes_are_told(benchmark, files, tmp_path, capsys, arguments, message):
    given = [argument.format(file=tmp_path / "good.jsonl") for argument in arguments]
    assert main(["compare", str(benchmark), *given, "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "none"), files[0], "--out", str(tmp_path / "out")]) == 1
    assert "give a benchmark's file" in capsys.readouterr().err
    assert main(["compare", str(benchmark), files[0], "--out", str(tmp_path / "good.jsonl" / "out")]) == 1
    assert "no folder can be made there" in capsys.readouterr().err
    assert main(["compare", str(benchmark), files[0], "--out", str(tmp_path / "o"), "--name", "my bench"]) == 1
    assert "--name my bench: has spaces" in capsys.readouterr().err
    (tmp_path / "wrong.txt").write_text(benchmark.read_text("utf-8").replace("\t1\t", "\t0\t"), "utf-8")
    assert main(["compare", str(tmp_path / "wrong.txt"), files[0], "--out", str(tmp_path / "p")]) == 1
    assert "the benchmark has no questions (missing_answer 8; first: wrong.txt:1" in capsys.readouterr().err


def test_a_runs_own_questions_are_a_benchmark(benchmark, files, tmp_path, capsys):
    assert main(["compare", str(benchmark), *files, "--name", "web", "--out", str(tmp_path / "one"), *SET]) == 0
    again = ["compare", str(next((tmp_path / "one").glob("ingest-*"))), *files, "--out", str(tmp_path / "two"), *SET]
    assert main(again) == 0
    first, second = (load(next((tmp_path / name).glob("evaluate-*")) / "summary.json") for name in ("one", "two"))
    assert [row.mean for row in first.means] == [row.mean for row in second.means]
