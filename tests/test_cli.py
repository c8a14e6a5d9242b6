"""The command line: quick to start, clear when something is wrong, its reference true."""

import subprocess
import sys
from pathlib import Path

import pytest

from medchatzh.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "nltk", "jinja2", "sentencepiece", "numba", "pyarrow", "opencc", "joblib")


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize(
    "code",
    [
        "import medchatzh",
        "from medchatzh.cli import parser; parser().format_help()",
        "from pathlib import Path; from medchatzh.pipeline import Plan; Plan(Path('recipes/quickstart.toml'), [], Path('{tmp}'))",
    ],
    ids=["import", "help", "plan"],
)
def test_nothing_heavy_is_imported(code, tmp_path):
    done = python(f"import sys; {code.format(tmp=tmp_path)}; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_help_is_quick():
    """0.5 s is the promise; processor time, so that a busy machine does not fail it. Best of three."""
    code = "import time; import medchatzh.cli as c; c.parser().format_help(); print(time.process_time())"
    assert min(float(python(code).stdout) for _ in range(3)) < 0.5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_a_section_in_the_reference(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0 and COMMANDS[command].partition(":")[0].split()[0] in capsys.readouterr().out
    assert f"## medchatzh {command}\n" in (ROOT / "docs" / "cli.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.toml"], "nowhere.toml: no such recipe"),
        (["run", str(ROOT / "recipes/quickstart.toml"), "--set", "sft.rowz=1"], "did you mean sft.rows?"),
        (["curate", str(ROOT / "recipes/quickstart.toml"), "--input", "ingest=."], "--input needs --out"),
        (["curate", str(ROOT / "recipes/quickstart.toml"), "--input", "books=.", "--out", "x"], "curate reads ingest"),
        (["curate", str(ROOT / "recipes/quickstart.toml"), "--input", "ingest", "--out", "x"], "write LABEL=DIR"),
        (["run", str(ROOT / "recipes/public-data.toml"), "--set", "data.root=nowhere"], "nowhere is not a folder"),
        (["run", str(ROOT / "recipes/quickstart.toml"), "--set", "data.root=."], "no file matches medical/western.csv"),
        (["chat", "nowhere"], "no such recipe"),
    ],
)
def test_errors_are_one_line_and_status_1(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert message in told and told.startswith("medchatzh: ") and len(told.splitlines()) == 1


@pytest.mark.parametrize("flag", ["--threads", "--workers"])
def test_negative_counts_are_refused(flag, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["run", "x.toml", flag, "-1"])
    assert stopped.value.code == 2 and "number of 0 or more" in capsys.readouterr().err


def test_a_folder_that_is_no_checkpoint(tmp_path, capsys):
    assert main(["chat", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_generated_docs_are_true():
    done = subprocess.run([sys.executable, "docs/make_cli.py", "--check"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_executor_is_passed_on(monkeypatch, tmp_path):
    from medchatzh.pipeline import Plan

    seen = []
    monkeypatch.setattr(Plan, "run", lambda self, stage="report", context=None: seen.append(context) or tmp_path)
    assert main(["curate", str(ROOT / "recipes" / "quickstart.toml"), "--executor", "ray", "--workers", "3", "--runs", str(tmp_path)]) == 0
    assert (seen[0].executor, seen[0].workers) == ("ray", 3)


def test_benchmark_needs_no_recipe(tmp_path, capsys):
    row = "7\t1\t内科\t头痛怎么办？\t多休息，必要时就医。\n7\t0\t内科\t头痛怎么办？\t每天喝水。\n"
    (tmp_path / "medQA.test.txt").write_text(row, "utf-8")
    assert main(["benchmark", str(tmp_path), "--name", "webMedQA"]) == 0
    page = capsys.readouterr().out
    assert "stand-in or part: 1 questions" in page and "| 内科 | Internal Medicine | 1 | 1 | >10000 | no |" in page
    (tmp_path / "empty").mkdir()
    assert main(["benchmark", str(tmp_path / "empty")]) == 1
    assert "no benchmark question there" in capsys.readouterr().err
    assert main(["benchmark", str(tmp_path / "nowhere")]) == 1
