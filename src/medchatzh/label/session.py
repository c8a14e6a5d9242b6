"""One labeller at work: what comes next, in which order it is shown, and what is said of it. Terminal and page are two faces of this."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medchatzh.label import tasks
from medchatzh.label.tasks import Task
from medchatzh.label.verdicts import MAX_NOTE_CHARS, SKIPS, Journal, Skip, Verdict, ranks_of

LETTERS = "ABCDEFGHI"


class Session:
    """The queue of a labeller and the journal of their verdicts. Positions count from 0."""

    def __init__(self, folder: Path, labeller: str) -> None:
        """ValueError where the folder is none, knows no such labeller, or they are at work elsewhere."""
        self.labelling, known = tasks.load(folder)
        self.labeller = tasks.known_labeller(self.labelling, labeller, folder)
        self.queue = tasks.queue(self.labelling, known, self.labeller)
        self._journal = Journal(folder, self.labeller, known)

    @property
    def num_done(self) -> int:
        return sum(task.key in self._journal.verdicts for task in self.queue)

    def next(self, after: int = -1) -> int | None:
        """The first task without a verdict behind a position, else the first of all; None when all are done."""
        order = [*range(after + 1, len(self.queue)), *range(after + 1)]
        return next((at for at in order if self.queue[at].key not in self._journal.verdicts), None)

    def shown(self, task: Task) -> list[int]:
        """Numbers of the candidates in the order shown."""
        return tasks.shown_order(self.labelling, task, self.labeller)

    def verdict(self, task: Task) -> Verdict | None:
        return self._journal.verdicts.get(task.key)

    def version(self, task: Task) -> int:
        """Changes with each verdict on the task: who answers what they saw before another verdict came is told so."""
        return self._journal.num_of.get(task.key, 0)

    def save(self, task: Task, places: Sequence[int], *, skip: Skip = "", note: str = "", seconds: float = 0.0) -> None:
        """Append a verdict. `places[i]` is the place given to the answer shown i-th (any whole numbers, lower is better, equal is a tie);
        none with a reason to skip.

        Raises ValueError where that is no verdict, OSError where it cannot be written; then nothing is changed.
        """
        shown = self.shown(task)
        note = note.strip()
        if len(note) > MAX_NOTE_CHARS:
            raise ValueError(f"备注最多 {MAX_NOTE_CHARS} 字 / the note has {len(note):,} characters; at most {MAX_NOTE_CHARS:,}")
        if skip == "other" and not note:
            raise ValueError("请在备注里写明原因 / say why in a note")
        if skip and skip not in SKIPS:
            raise ValueError(f"未知的原因 / unknown reason {skip}; known: {', '.join(SKIPS)}")
        if bool(places) == bool(skip) or (places and len(places) != len(shown)):
            raise ValueError(f"每个回答都要有名次 / give each of the {len(shown)} answers a place")
        ranks = [0] * len(shown) if places else []
        if places:
            for number, rank in zip(shown, ranks_of(places), strict=True):
                ranks[number] = rank
        self._journal.append(
            Verdict(task=task.key, shown=tuple(shown), ranks=tuple(ranks), skip=skip, note=note, seconds=round(max(seconds, 0.0), 1))
        )

    def close(self) -> None:
        self._journal.close()
