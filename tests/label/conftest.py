"""Questions, answers of systems, and a prepared folder, all made here."""

from collections.abc import Callable
from pathlib import Path

import pytest

from medchatzh import records
from medchatzh.label.prepare import Config, Prepared, prepare
from medchatzh.records import Dialogue, Prediction, Turn

CATEGORIES = ("内科", "内科", "内科", "儿科")
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>&amp;\u202eabc"


def dialogue(number: int, answer: str | None = None, category: str | None = None, question: str | None = None) -> Dialogue:
    turns = (Turn("user", question or f"第{number}个问题：头痛怎么办？"), Turn("assistant", answer or f"第{number}个问题的医生回答。"))
    return Dialogue(id=f"clinic:{number}", source="clinic", category=category or CATEGORIES[number % 4], turns=turns)


def prediction(number: int, system: str, answer: str | None = None) -> Prediction:
    asked = dialogue(number).question
    return Prediction(id=f"clinic:{number}", system=system, question=asked, answer=answer or f"{system[::-1]}答第{number}题，多休息。")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """40 dialogues in our own form."""
    path = tmp_path / "medical.jsonl"
    records.write(path, (dialogue(number) for number in range(40)))
    return path


@pytest.fixture
def answers(tmp_path: Path) -> dict[str, Path]:
    """Three systems' predictions to all of them; one is hostile to a page that would take texts for HTML."""
    files = {}
    for system in ("alpha", "beta", "gamma"):
        files[system] = tmp_path / f"{system}.jsonl"
        texts = {7: HOSTILE} if system == "alpha" else {}
        records.write(files[system], (prediction(number, system, texts.get(number)) for number in range(40)))
    return files


Made = Callable[..., tuple[Path, Prepared]]


@pytest.fixture
def made(tmp_path: Path, questions: Path, answers: dict[str, Path]) -> Made:
    """Prepares a folder: (folder, what was told)."""

    def made(name: str = "labelling", **settings) -> tuple[Path, Prepared]:
        config = Config(**{"labellers": ("wang", "李医生"), "num_tasks": 10, "overlap": 0.4} | settings)
        folder = tmp_path / name
        return folder, prepare(questions, answers, folder, config)

    return made


@pytest.fixture
def folder(made: Made) -> Path:
    return made()[0]
