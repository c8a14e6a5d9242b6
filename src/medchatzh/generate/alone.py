"""One system answers the questions of a file, without a recipe: `medchatzh generate --questions`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from medchatzh.generate import System
from medchatzh.records import Question, write
from medchatzh.run import Context, Digests, execute, lock, step


def answer(system: System, questions: Iterable[Question], out: Path, runs: Path, context: Context) -> Path:
    """Run the stage into the new folder `out`; its predictions.jsonl is what `medchatzh compare` takes. Killed, the same call goes on.

    ValueError where `out` exists.
    """
    if out.exists():
        raise ValueError(f"{out}: exists already; give --out another folder")
    digests = Digests(runs / ".digests.json")
    files = system.given.files() if system.given else {}
    work = step(context.seed, digests, name=f"generate@{system.system}", module="generate", config=system, files=files, resumable=True)
    digests.save()
    with lock(out.absolute().parent), tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "questions"
        asked.mkdir()
        write(asked / "questions.jsonl", questions)
        return execute(work, runs, context, out=out, given={"ingest": asked}, only_given=True)
