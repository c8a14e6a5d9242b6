"""A labelling folder: what is to be ranked, by whom, and in which order each labeller sees it.

    labelling.json         seed, labellers
    tasks.jsonl            questions with their candidate answers, and which system wrote them
    verdicts/NAME.jsonl    what a labeller said, one line a verdict

Tasks are never changed once prepared. All draws are orders by hash, so that they depend on the seed and the text alone: not on the order of
files, the version of a random generator, or who else labels.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import msgspec

from medchatzh.recipe import Settings
from medchatzh.records import Record, Turn, normalize, read

LABELLING = "labelling.json"
TASKS = "tasks.jsonl"
VERDICTS = "verdicts"

MAX_ANSWERS = 9
"""One digit ranks an answer, one letter (A to I) names it."""


class Candidate(msgspec.Struct, frozen=True):
    """An answer, and all that gave it: systems by name, `record` for the question's own. Labellers are never shown `sources`."""

    text: str
    sources: tuple[str, ...]


class Task(Record, frozen=True, kw_only=True):
    """A question, and the candidates to rank. `id`, `source`, `origin`, `category` are the question's."""

    key: str
    """Hash of all that is shown: a verdict can never be taken for one on other answers."""
    prompt: tuple[Turn, ...]
    candidates: tuple[Candidate, ...]
    labellers: tuple[str, ...]
    """Who ranks it."""


class Labelling(Settings, frozen=True, kw_only=True):
    """What the folder was prepared with."""

    seed: int
    labellers: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.labellers:
            raise ValueError("no labellers; name at least one: --labellers NAME")
        for name in self.labellers:
            check_name(name)
        folded = [name.casefold() for name in self.labellers]
        if repeated := next((name for name in self.labellers if folded.count(name.casefold()) > 1), None):
            raise ValueError(f"labellers: {repeated} is there twice (a file's name may not tell upper from lower case)")


def check_name(name: str) -> None:
    """ValueError unless the name can be a file's: it comes from a command line and becomes `verdicts/NAME.jsonl`."""
    if not re.fullmatch(r"\w[\w-]{0,39}", name) or name != unicodedata.normalize("NFC", name):
        raise ValueError(f"labeller {name!r}: a name has 1 to 40 letters, digits, _ and -, for example wang or 王医生")


def draw(*parts: object) -> bytes:
    """A number that nothing but its parts decides; what is sorted by it is shuffled."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8).digest()


def key_of(prompt: Sequence[Turn], answers: Sequence[str]) -> str:
    """The hash that names a task."""
    shown = msgspec.json.encode([[(turn.role, turn.content) for turn in prompt], *answers])
    return hashlib.blake2b(shown, digest_size=8).hexdigest()


def same_question(prompt: Sequence[Turn]) -> str:
    """Equal for prompts that differ in nothing but width, case, white space and punctuation."""
    return "\n".join(f"{turn.role}:{normalize(turn.content)}" for turn in prompt)


def load(folder: Path) -> tuple[Labelling, list[Task]]:
    """What `prepare` made. ValueError where the folder is none, or was tampered with."""
    path = folder / LABELLING
    try:
        labelling = msgspec.json.decode(path.read_bytes(), type=Labelling)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{folder}: no {LABELLING} there; make the folder with `medchatzh label prepare … --out {folder}`") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise ValueError(f"{path}: {error}; it must stay as `medchatzh label prepare` wrote it") from None
    tasks = list(read(folder / TASKS, Task))
    for task in tasks:
        if task.key != key_of(task.prompt, [candidate.text for candidate in task.candidates]):
            raise ValueError(f"{folder / TASKS}: task {task.key} ({task.id}) was changed; prepare a new folder for changed tasks")
        if strangers := set(task.labellers) - set(labelling.labellers):
            raise ValueError(f"{folder / TASKS}: task {task.key}: no labeller {min(strangers)} in {LABELLING}")
    return labelling, tasks


def known_labeller(labelling: Labelling, name: str, folder: Path) -> str:
    """The name, NFC as file names are written. ValueError where the folder was not prepared for it."""
    name = unicodedata.normalize("NFC", name)
    if name not in labelling.labellers:
        near = difflib.get_close_matches(name, labelling.labellers, n=1)
        hint = f"did you mean {near[0]}?" if near else "a new labeller gets a folder of their own: prepare --labellers … --without"
        raise ValueError(f"{folder}: no labeller {name!r} (there are: {', '.join(labelling.labellers)}); {hint}")
    return name


def queue(labelling: Labelling, tasks: Sequence[Task], labeller: str) -> list[Task]:
    """The labeller's tasks, in an order of their own: fatigue then falls on other tasks for each."""
    own = [task for task in tasks if labeller in task.labellers]
    return sorted(own, key=lambda task: draw(labelling.seed, labeller, task.key))


def shown_order(labelling: Labelling, task: Task, labeller: str) -> list[int]:
    """Numbers of the candidates, in the order in which this labeller sees them."""
    return sorted(range(len(task.candidates)), key=lambda number: draw(labelling.seed, labeller, task.key, number))
