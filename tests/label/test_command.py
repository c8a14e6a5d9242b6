"""`medchatzh label` from the command line."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys

import msgspec
import pytest

from medchatzh import cli
from medchatzh.label import add_arguments, main
from medchatzh.label.session import Session
from medchatzh.records import Dialogue, Prediction, read, write
from tests.label.conftest import dialogue


@pytest.fixture
def label(capsys):
    """Runs the command; gives what it printed."""

    def label(*arguments: object) -> str:
        command = argparse.ArgumentParser()
        add_arguments(command)
        assert main(command.parse_args([str(one) for one in arguments])) == 0
        return capsys.readouterr().out

    return label


def test_from_questions_to_preferences(label, questions, answers, tmp_path, monkeypatch):
    given = [f"{name}={path}" for name, path in answers.items()]
    out = tmp_path / "ours"
    told = label("prepare", questions, "--answers", *given, "--out", out, "--labellers", "wang", "李医生", "--num-tasks", 8)
    assert "抽取 / sampled: 8 题" in told and "alpha: 40 个回答" in told and "内科 6, 儿科 2" in told
    for name in ("wang", "李医生"):
        session = Session(out, name)
        for task in session.queue:
            session.save(task, [1, 2, 2, 4] if name == "wang" else [1, 2, 3, 4])
        session.close()
    assert "Kendall W" in label("report", out)
    assert json.loads(label("report", out, "--json"))["num_tasks"] == 8
    told = label("export", out, "--out", tmp_path / "p.jsonl", "--min-agreement", "-1")
    assert "8 个排序 / rankings" in told


def test_curated_questions_are_sampled_answered_and_ranked(label, checkpoint, tmp_path):
    """As docs/labelling.md says, with `generate` itself."""
    curated, sampled = tmp_path / "medical.jsonl", tmp_path / "sampled.jsonl"
    write(curated, [dialogue(n, category="内科" if n % 2 else "儿科") for n in range(12)])
    assert "6 个问题 / questions" in label("sample", curated, "--num-tasks", 6, "--out", sampled)
    assert [one.category for one in read(sampled, Dialogue)].count("内科") == 3
    command = ["generate", "--questions", sampled, "--system", "ours", "--model", checkpoint, "--out", tmp_path / "ours"]
    assert cli.main([*map(str, command), "--set", "generate.decoding.max_new_tokens=5"]) == 0
    found = list(read(tmp_path / "ours" / "predictions.jsonl", Prediction))
    assert [(one.id, one.question) for one in found] == [(one.id, one.question) for one in read(sampled, Dialogue)]
    said = tmp_path / "said.jsonl"  # what an untrained model says may be nothing
    write(said, [msgspec.structs.replace(one, answer=f"答{one.id}") for one in found])
    out = tmp_path / "tasks"
    told = label("prepare", sampled, "--answers", f"ours={said}", "--out", out, "--labellers", "wang")
    assert "ours: 6 个回答" in told and "抽取 / sampled: 6 题" in told and "benchmark" not in told
    rest = tmp_path / "rest.jsonl"
    assert "6 个问题" in label("sample", curated, "--out", rest, "--without", sampled)
    assert {one.id for one in read(rest, Dialogue)}.isdisjoint(one.id for one in read(sampled, Dialogue))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "q.jsonl", "--out", "q.jsonl"], "is there already"),
        (["sample", "q.jsonl", "--out", "o", "--without", "q.jsonl"], "nothing is left"),
        (["sample", "q.jsonl", "--out", "o", "--num-tasks", "0"], "give 1 or more"),
        (["prepare", "q", "--out", "o", "--labellers", "a", "--answers", "x"], "write NAME=FILE"),
        (["prepare", "q", "--out", "o", "--labellers", "a", "--answers", "x=1", "x=2"], "x is there twice"),
        (["rank", "nowhere", "--labeller", "a"], "nowhere: no labelling.json there"),
        (["rank", "nowhere", "--labeller", "a", "--port", "1"], "add --page"),
        (["report", "nowhere"], "nowhere: no labelling.json there"),
        (["export", "nowhere", "--out", "x"], "nowhere: no labelling.json there"),
    ],
)
def test_errors(label, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "q.jsonl", [dialogue(1)])
    with pytest.raises(ValueError, match=message):
        label(*arguments)


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
def test_ports_that_there_are_not(label, port, capsys):
    with pytest.raises(SystemExit):
        label("rank", "folder", "--labeller", "a", "--page", "--port", port)
    assert "0 to 65535" in capsys.readouterr().err


def test_the_arguments_import_nothing():
    code = "import sys, argparse; from medchatzh.label import add_arguments; add_arguments(argparse.ArgumentParser())"
    heavy = "print([name for name in ('msgspec', 'numpy', 'http.server', 'medchatzh.ingest') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}; {heavy}"], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_terminal_and_the_page_as_processes(folder):
    code = "import argparse, sys; from medchatzh.label import *; p = argparse.ArgumentParser(); add_arguments(p); main(p.parse_args())"
    command = [sys.executable, "-c", code, "rank", str(folder), "--labeller", "wang"]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, input="abcd\n\xff\n".encode("latin-1"), capture_output=True, env=environment, timeout=60)
    assert done.returncode == 0 and "1/7 · 同一命令继续" in done.stdout.decode("utf-8"), done.stderr
    page = subprocess.Popen([*command, "--page"], stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment)
    assert page.stdout.readline() == "wang · 1/7\n"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/\n", page.stdout.readline())
    page.stdout.readline()
    page.send_signal(signal.SIGINT)
    assert page.wait(20) == 0 and "wang · 1/7" in page.stdout.read()
