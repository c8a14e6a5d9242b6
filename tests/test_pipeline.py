"""The whole pipeline at toy size: runs, skips what is done, goes on after kill -9 to the same bytes, each stage alone."""

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from medchatzh.cli import main
from medchatzh.pipeline import Plan
from medchatzh.records import Dialogue, Prediction, Turn, read, write
from medchatzh.run import MANIFEST, PARTIAL, Context, read_manifest

QUICKSTART = Path(__file__).parents[1] / "recipes" / "quickstart.toml"
KILLS = int(os.environ.get("MEDCHATZH_KILLS", "3"))
TOY = [
    *("pretrain.max_steps=8", "pretrain.save_steps=2", "reward.max_steps=6", "reward.save_steps=2", "sft.max_steps=8", "sft.save_steps=2"),
    "pretrain.architecture={hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, max_positions=1024}",
    *("generate.max_questions=22", "generate.batch_size=4", "generate.decoding.max_new_tokens=16", "evaluate.num_resamples=200"),
]
CONTEXT = Context(seed=43, threads=1)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run of the toy recipe."""
    plan = Plan(QUICKSTART, TOY, tmp_path_factory.mktemp("runs"))
    plan.run(context=CONTEXT)
    return plan


def outputs(plan):
    """Every finished stage's output hashes."""
    return {name: read_manifest(plan.folder(name)).outputs for name in plan.steps}


def test_counts_balance_in_every_manifest(done):
    for name in done.steps:
        manifest = read_manifest(done.folder(name))
        if manifest.stage not in ("report", "books"):  # a report has one output; a book becomes many chapters
            assert manifest.num_in == manifest.num_out + sum(manifest.dropped.values()), name


def test_a_second_run_does_nothing(done, capsys):
    before = {path: path.stat().st_mtime_ns for path in done.runs.rglob("*") if path.is_file() and path.name != ".digests.json"}
    Plan(QUICKSTART, TOY, done.runs.parent).run(context=CONTEXT)
    assert capsys.readouterr().out == ""
    assert before == {path: path.stat().st_mtime_ns for path in done.runs.rglob("*") if path.is_file() and path.name != ".digests.json"}


def test_report_has_what_was_asked(done):
    page = (done.folder("report") / "report.html").read_text("utf-8")
    assert all(name in page for name in ("medchatzh", "before_sft", "no_medical", "canned", "random", "56.31", "BLEU|"))
    assert "<svg" in page and "http://" not in page.replace("http://www.w3.org", "") and "src=" not in page
    assert str(done.runs) not in page


def test_same_seed_same_bytes_with_one_worker_or_two(done, tmp_path):
    again = Plan(QUICKSTART, TOY, tmp_path)
    again.run("curate", Context(seed=43, threads=1, workers=2))
    for stage in ("ingest", "curate"):
        assert read_manifest(again.folder(stage)).outputs == read_manifest(done.folder(stage)).outputs


def test_killed_at_random_moments_ends_in_the_same_bytes(done, tmp_path):
    """kill -9 during the work; MEDCHATZH_KILLS moments (3 by default)."""
    settings = [part for assignment in TOY for part in ("--set", assignment)]
    command = [sys.executable, "-m", "medchatzh", "run", str(QUICKSTART), "--runs", str(tmp_path), "--threads", "1", *settings]
    moments = random.Random(7)
    killed = 0
    for _ in range(KILLS):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + moments.uniform(2, 2 + 24 / KILLS)
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            killed += 1
        child.wait()
        for folder in (tmp_path / "quickstart").glob("*-*"):
            assert folder.name.endswith(PARTIAL) or (folder / MANIFEST).exists()
    subprocess.run(command, check=True, capture_output=True)
    assert killed
    assert outputs(Plan(QUICKSTART, TOY, tmp_path)) == outputs(done)
    assert not list((tmp_path / "quickstart").glob(f"*{PARTIAL}"))


def test_killed_while_answering_and_scoring_no_answer_is_lost_or_given_twice(done, tmp_path):
    """kill -9 at MEDCHATZH_KILLS moments between the first answer and the report; at most the answers in the slots are lost."""
    runs = tmp_path / "runs" / "quickstart"
    shutil.copytree(done.runs, runs)
    for name in done.steps:
        if name.startswith(("generate@", "score@judge", "overlap", "evaluate", "report")):
            shutil.rmtree(runs / done.steps[name].folder_name, ignore_errors=True)
    settings = [part for assignment in TOY for part in ("--set", assignment)]
    command = [sys.executable, "-m", "medchatzh", "run", str(QUICKSTART), "--runs", str(runs.parent), "--threads", "1", *settings]
    moments, num_killed, before = random.Random(11), 0, Counter()
    for _ in range(KILLS):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + moments.uniform(3, 3 + 12 / KILLS)
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        num_killed += child.poll() is None
        child.kill()
        child.wait()
        now = answered(runs.parent)
        assert max(now.values(), default=1) == 1 and before.keys() <= now.keys()
        before = now
    subprocess.run(command, check=True, capture_output=True)
    assert num_killed and max(answered(runs.parent).values()) == 1
    assert outputs(Plan(QUICKSTART, TOY, runs.parent)) == outputs(done)


def answered(runs):
    """(file, key) → how often, of the answers and rewards that are kept."""
    whole = [(path, path.read_bytes().split(b"\n")[:-1]) for path in (runs / ".cache").glob("generated-*.jsonl")]
    return Counter((path.name, json.loads(line)[0]) for path, lines in whole for line in lines)


def test_a_stage_alone_on_files_of_ones_own(done, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    good = Dialogue(id="a:1", turns=(Turn("user", "咳嗽怎么办？"), Turn("assistant", "多休息，多喝温水，三天不好请就医。")))
    short = Dialogue(id="a:2", turns=(Turn("user", "头晕怎么办？"), Turn("assistant", "休息。")))
    write(mine / "dialogues.jsonl", [good, short])
    write(mine / "questions.jsonl", [])
    out = tmp_path / "out"
    arguments = ["curate", str(QUICKSTART), "--runs", str(tmp_path / "runs"), "--input", f"ingest={mine}", "--out", str(out)]
    assert main(arguments) == 0
    assert list(read(out / "medical.jsonl", Dialogue)) == [good]
    assert read_manifest(out).dropped == {"short_answer": 1}
    assert main(arguments) == 1  # the folder exists


def test_predictions_of_others_are_evaluated(done, tmp_path):
    """Another system's answers take the place of ours, without training anything."""
    theirs = [
        Prediction(id=each.id, category=each.category, system="medchatzh", question=each.question, answer="请就医。")
        for each in read(done.folder("generate@medchatzh") / "predictions.jsonl", Prediction)
    ]
    folder = tmp_path / "theirs"
    folder.mkdir()
    write(folder / "predictions.jsonl", theirs)
    given = {"ingest": done.folder("ingest"), "generate@theirs": folder}
    fresh = Plan(QUICKSTART, TOY, tmp_path / "runs")  # nothing is made there: no model is needed
    out = fresh.run_alone(fresh.step_of("evaluate"), given, tmp_path / "out", CONTEXT)
    manifest = read_manifest(out)
    assert manifest.inputs["generate@theirs"].startswith("theirs@") and manifest.fingerprint != fresh.steps["evaluate"].fingerprint
    assert (out / "summary.json").exists() and not list((tmp_path / "runs" / "quickstart").glob("*-*"))


def test_generate_alone_means_the_main_system(done):
    assert done.step_of("generate").name == "generate@medchatzh"
    assert done.step_of("sft", "no_medical").name == "sft@no_medical"
    with pytest.raises(ValueError, match="generate has no arm or system 'x'; known: medchatzh, before_sft"):
        done.step_of("generate", "x")


def test_a_mix_without_a_reward_trains_nothing_and_says_so(tmp_path):
    plan = Plan(QUICKSTART, ["score.kind=none"], tmp_path)
    folder = plan.run("mix", CONTEXT)
    assert {path.name.partition("-")[0] for path in plan.runs.glob("*-*")} == {"ingest", "curate", "score", "mix"}
    assert read_manifest(plan.folder("score")).inputs.keys() == {"curate"}
    card = (folder / "README.md").read_text("utf-8")
    assert card.count("not filtered by a reward") == 2 and "filtered by reward" not in card and "奖励" not in card
    given = {stage: plan.folder(stage) for stage in ("ingest", "curate", "score", "mix")}
    report = (plan.run_alone(plan.step_of("report"), given, tmp_path / "report", CONTEXT) / "report.md").read_text("utf-8")
    assert "The medical records are not filtered by a reward." in report and "by reward" not in report


@pytest.mark.parametrize(("kind", "pattern"), [("preference", "rankings.jsonl"), ("question", "medQA.test.txt"), ("book", "books")])
def test_raw_data_without_a_kind_fails_right_after_ingest(kind, pattern, tmp_path, capsys):
    table = tomllib.loads(QUICKSTART.read_text("utf-8"))
    sources = [source for source in table["ingest"]["sources"] if pattern not in source["path"]]
    path = tmp_path / "recipe.toml"
    path.write_text(_toml(sources), "utf-8")
    assert main(["run", str(path), "--runs", str(tmp_path / "runs")]) == 1
    told = capsys.readouterr().err
    assert f"ingest found no {kind}s" in told and "add a source" in told
    assert main(["run", str(path), "--runs", str(tmp_path / "runs")]) == 1  # and again, now that ingest is done
    assert f"ingest found no {kind}s" in capsys.readouterr().err


def _toml(sources):
    """A recipe of these sources, all else at its default."""
    rows = ["[[ingest.sources]]\n" + "".join(f'{key} = "{value}"\n' for key, value in source.items()) for source in sources]
    return '[data]\nroot = "medchatzh:samples"\n' + "".join(rows)


def test_chat_takes_bytes_that_are_no_utf8(done):
    command = [sys.executable, "-m", "medchatzh", "chat", str(done.folder("sft") / "checkpoint"), "--set", "chat.decoding.max_new_tokens=6"]
    answered = subprocess.run(command, input="高血压\n你好\n".encode("gbk"), capture_output=True, timeout=120)
    assert answered.returncode == 0, answered.stderr.decode()
    assert answered.stdout.decode().count("\n") >= 2


def test_a_threshold_that_keeps_nothing_is_told_at_once(done, tmp_path, capsys):
    settings = [part for assignment in [*TOY, "score.kind=absolute", "score.threshold=99"] for part in ("--set", assignment)]
    assert main(["score", str(QUICKSTART), "--runs", str(done.runs.parent), "--threads", "1", *settings]) == 1
    assert "nothing reaches score.threshold = 99 (absolute)" in capsys.readouterr().err


def test_chat_answers_in_turns(done, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("你好\n\n/new\n头痛怎么办？\n还有呢？\n/exit\n不会读到\n"))
    settings = [part for assignment in TOY for part in ("--set", assignment)]
    assert main(["chat", str(QUICKSTART), "--runs", str(done.runs.parent), "--set", "chat.decoding.max_new_tokens=8", *settings]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert "（新对话 / new conversation）" in lines and len(lines) >= 5
    assert main(["chat", str(done.folder("sft") / "checkpoint"), "--question", "问" * 3000]) == 1
    assert "shorten it" in capsys.readouterr().err
    assert main(["chat", str(done.folder("reward") / "checkpoint"), "--question", "你好"]) == 1
    assert "a reward model, which gives scores and no text" in capsys.readouterr().err
    assert main(["chat", str(done.folder("sft") / "checkpoint"), "--set", "sft.rows=2"]) == 1
    assert "only chat.* can be set" in capsys.readouterr().err
