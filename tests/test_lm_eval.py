"""The tasks for lm-evaluation-harness: the same answers get the same scores there and in `evaluate`."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from medchatzh import evaluate, lm_eval, prompt, records
from medchatzh.metrics.protocols import PROTOCOLS
from medchatzh.records import Prediction, Question, Score, Turn
from medchatzh.run import Context

FOLDER = Path(lm_eval.__file__).parent


def asked(number: int, **more) -> Question:
    fields = {
        "question": f"高血压第{number}天头痛怎么办？",
        "references": (f"建议低盐饮食，规律服药{number}次，定期监测血压。",),
        "distractors": ("脾胃虚弱者宜健脾益气。", f"多喝水{number}"),
        "category": "内科",
    }
    return Question(id=f"web:{number}", source="web", **(fields | more))


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    (tmp_path / "ingest").mkdir()
    made = [*(asked(number) for number in range(6)), asked(2), asked(9, references=(" ",))]
    records.write(tmp_path / "ingest" / "questions.jsonl", made)
    return tmp_path / "ingest" / "questions.jsonl"


def evaluated(folder: Path, answers: dict[str, str]) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """What `medchatzh evaluate` says of answers: question → metric → score, and metric → mean."""
    (folder / "generate").mkdir()
    (folder / "evaluate").mkdir()
    made = [Prediction(id=key, system="x", question="", answer=answer) for key, answer in answers.items()]
    records.write(folder / "generate" / "predictions.jsonl", made)
    inputs = {"ingest": folder / "ingest", "generate@x": folder / "generate"}
    evaluate.run(evaluate.Config(num_resamples=100), inputs, folder / "evaluate", Context())
    found: dict[str, dict[str, float]] = {key: {} for key in answers}
    for score in records.read(folder / "evaluate" / "scores.jsonl", Score):
        found[score.id][score.metric] = score.value
    summary = json.loads((folder / "evaluate" / "summary.json").read_text("utf-8"))
    return found, {f"{row['protocol']}/{row['metric']}": row["mean"] for row in summary["means"]}


def test_the_documents_are_the_questions_that_evaluate_scores(benchmark, capsys):
    documents = lm_eval.documents(benchmark)
    assert [one["id"] for one in documents] == [f"web:{number}" for number in range(6)], "no repeated id, none without an answer"
    assert len({frozenset(one) for one in documents}) == 1, "all have the same fields, as a table wants"
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 16 and "medchatzh/ROUGE-L: ROUGE|" in told[-1] and "refs:3(pos+neg)" in told[-1]


def test_a_file_without_a_question_to_score_is_refused(tmp_path):
    path = tmp_path / "questions.jsonl"
    records.write(path, [asked(1, references=())])
    with pytest.raises(ValueError, match="no question with a reference"):
        lm_eval.documents(path)


@pytest.mark.parametrize("answer", ["规律服药，定期监测血压", "脾胃虚弱者宜健脾益气。", "", "x", "建议低盐饮食\n\n1. 多喝水 。"])
def test_scores_are_those_of_evaluate_to_the_last_bit(benchmark, answer):
    documents = lm_eval.documents(benchmark)
    here = {one["id"]: lm_eval.process_results(one, [answer]) for one in documents}
    there, _ = evaluated(benchmark.parents[1], dict.fromkeys(here, answer))
    assert here == there


def test_conversations_are_asked_in_the_words_of_the_paper():
    doc = {"id": "a:1", "question": "还要吃药吗", "references": ["要"], "history": [{"role": "user", "content": "头痛"}]}
    doc["history"].append({"role": "assistant", "content": "多休息"})
    turns = (Turn("user", "头痛"), Turn("assistant", "多休息"), Turn("user", "还要吃药吗"))
    assert lm_eval.ask(doc) == prompt.text(turns, prompt.TEMPLATES["medchatzh"])
    assert lm_eval.target(doc) == "要"
    with pytest.raises(ValueError, match="a:1: has 2 turns before the question; use the task medchatzh_qa"):
        lm_eval.ask_bare(doc)
    assert lm_eval.ask_bare({**doc, "history": []}) == "还要吃药吗"


def test_the_task_names_every_metric_and_only_functions_that_exist():
    text = (FOLDER / "medchatzh_qa.yaml").read_text("utf-8")
    expected = [f"{name}/{metric}" for name in lm_eval.SCORED_BY for metric in PROTOCOLS[name].names]
    assert re.findall(r"metric: ([^,]+), aggregation: mean, higher_is_better: true", text) == expected
    texts = text + (FOLDER / "medchatzh_qa_chat.yaml").read_text("utf-8")
    named = re.findall(r"!function medchatzh\.lm_eval\.(\w+)", texts)
    assert len(named) == 5 and all(callable(getattr(lm_eval, name)) for name in named)


def test_the_module_alone_tells_its_folder_and_reads_logged_samples(tmp_path):
    samples = tmp_path / "samples.jsonl"
    sample = {"doc_id": 0, "doc": {"id": "web:1", "question": "问", "references": ["答"]}, "filtered_resps": ["多喝水\n"], "target": "答"}
    samples.write_text(json.dumps(sample), "utf-8")

    def told(*arguments: str) -> str:
        command = [sys.executable, "-m", "medchatzh.lm_eval", *arguments]
        return subprocess.run(command, check=True, capture_output=True, encoding="utf-8", env={**os.environ, "PYTHONUTF8": "1"}).stdout

    assert Path(told().strip()) == FOLDER
    assert json.loads(told(str(samples))) == {"id": "web:1", "answer": "多喝水\n"}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["medchatzh_qa", "medchatzh_qa_chat"])
def test_the_harness_itself_gives_the_scores_of_evaluate(benchmark, checkpoint, tmp_path, task):
    """The real command line, with a model of random weights, whose answers are gibberish that now and then holds the right character."""
    if not importlib.util.find_spec("lm_eval"):
        pytest.skip("lm-evaluation-harness is not installed: pip install 'medchatzh[lm-eval]'")
    options = ["--tasks", task, "--include_path", str(FOLDER), "--model", "hf", "--model_args", f"pretrained={checkpoint},dtype=float32"]
    options += [
        "--device",
        "cpu",
        "--batch_size",
        "3",
        "--gen_kwargs",
        "max_gen_toks=96,do_sample=true,temperature=1.0",
        "--log_samples",
        "--output_path",
        str(tmp_path),
    ]
    options += ["--metadata", json.dumps({"questions": str(benchmark)}), *(["--apply_chat_template"] if task.endswith("chat") else [])]
    subprocess.run([sys.executable, "-m", "lm_eval", "run", *options], check=True, env={**os.environ, "HF_DATASETS_OFFLINE": "1"})
    (samples,) = tmp_path.rglob("samples_*.jsonl")
    (results,) = tmp_path.rglob("results_*.json")
    logged = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
    answers = {line["id"]: line["answer"] for line in lm_eval.answers(samples)}
    assert len(answers) == 6 and any(answers.values())
    scores, means = evaluated(tmp_path, answers)
    names = list(means)
    assert {line["doc"]["id"]: {name: line[name] for name in names} for line in logged} == scores
    totals = json.loads(results.read_text("utf-8"))["results"][task]
    assert {name: totals[f"{name},none"] for name in names} == pytest.approx(means, abs=5.1e-7), "a summary has six decimals"
    assert max(means.values()) > 0
