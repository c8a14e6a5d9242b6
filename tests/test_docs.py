"""What the pages show, runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["README.md", "README.en.md"])
def test_python_of_the_readme_runs(page, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "personal_data" and int(lines[-1]) > 300


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_readme_commands_exist():
    from medchatzh.cli import COMMANDS

    for page in ("README.md", "README.en.md"):
        used = set(re.findall(r"^(?:\.venv/bin/)?medchatzh (\w+)", (ROOT / page).read_text("utf-8"), re.MULTILINE))
        assert used and used <= set(COMMANDS)
        assert set(re.findall(r"^make (\w+)", (ROOT / page).read_text("utf-8"), re.MULTILINE)) == {"demo", "test"}
