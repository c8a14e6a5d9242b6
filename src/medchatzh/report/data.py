"""Gather what the stages left behind: manifests, the evaluation's summary, training logs, rejects. Any of it may be missing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from medchatzh import personal
from medchatzh.metrics import summary as summaries
from medchatzh.metrics.summary import Summary
from medchatzh.records import Prediction, read
from medchatzh.report.charts import Series
from medchatzh.run import Manifest, read_manifest

Kind = Literal["", "main", "floor"]

FLOORS = {"canned": "固定答案", "random": "随机答案", "retrieved": "检索答案"}
"""Kinds of `generate` that any model must beat, by the name that the report gives them."""
HUMAN = "human"
"""The kind of `generate` that is one of the question's own answers, scored against its others: no floor, and with other references."""
NAMES = {"before_sft": "微调前", HUMAN: "真人答案，与同题其余答案比对"}

_NUM_TONES = 6


class System(msgspec.Struct, frozen=True):
    """A system in tables and charts: its name, the name shown, what it is, and its colour, the same everywhere."""

    name: str
    label: str
    kind: Kind
    arm: str
    """The ablation arm that trained it, '' for none."""
    tone: str
    human: bool = False
    """Its references are not those of the others: its numbers stand beside theirs and are never ranked with them."""

    @property
    def series(self) -> Series:
        return Series(self.label, self.tone)


class LogLine(msgspec.Struct, frozen=True):
    """A line of `metrics.jsonl`, as far as it is drawn. A loss that is no number was written as null."""

    step: int
    loss: float | None = None


class Inputs:
    """The finished stages, by label. Whoever asks for what was not given gets None, {} or nothing."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        """ValueError where a folder is no finished stage, or holds the files of another version."""
        self.folders = folders
        self.manifests: dict[str, Manifest] = {label: read_manifest(folder) for label, folder in folders.items()}
        path = folders.get("evaluate")
        self.summary: Summary | None = summaries.load(path / "summary.json") if path else None
        self.systems = self._systems()

    def __contains__(self, label: str) -> bool:
        return label in self.folders

    def facts(self, label: str) -> dict[str, Any]:
        return self.manifests[label].facts if label in self.manifests else {}

    def config(self, label: str) -> dict[str, Any]:
        return self.manifests[label].config if label in self.manifests else {}

    @property
    def arms(self) -> list[str]:
        return [label.partition("@")[2] for label in self.folders if label.startswith("sft@")]

    def system(self, name: str) -> System:
        return self.systems.get(name) or System(name, name, "", "", "s1")

    def _systems(self) -> dict[str, System]:
        """The systems of the evaluation, main first, and those that were generated but not evaluated."""
        configs = {}
        for label, manifest in self.manifests.items():
            if label.startswith("generate@"):
                configs[str(manifest.config.get("system") or label.partition("@")[2])] = manifest.config
        evaluated = self.summary.systems if self.summary else ()
        main = self.summary.main if self.summary else next(iter(configs), "")
        found: dict[str, System] = {}
        tones = {"floor": 0, "": 0}
        for name in dict.fromkeys((*evaluated, *configs)):
            made = str(configs.get(name, {}).get("kind") or name)
            kind: Kind = "main" if name == main else "floor" if made in FLOORS else ""
            arm = name if kind == "" and name in self.arms else ""
            if kind == "main":
                tone = "main"
            else:
                tones[kind] += 1
                tone = f"floor{(tones[kind] - 1) % len(FLOORS) + 1}" if kind else f"s{(tones[kind] - 1) % _NUM_TONES + 1}"
            translated = FLOORS.get(made) if kind == "floor" else "消融" if arm else NAMES.get(made, NAMES.get(name))
            found[name] = System(name, f"{name}（{translated}）" if translated else name, kind, arm, tone, made == HUMAN)
        return found

    @property
    def is_reward_filtered(self) -> bool:
        """Whether a reward model filtered the medical records: the stage was run, and its kind is not `none`."""
        return "score" in self and self.facts("score").get("kind") != "none"

    def log(self, label: str) -> list[tuple[float, float]]:
        """(step, loss) of a training stage; [] where it left no log."""
        path = self.folders[label] / "metrics.jsonl" if label in self.folders else None
        if path is None or not path.exists():
            return []
        return [(line.step, line.loss) for line in read(path, LogLine) if line.loss is not None and math.isfinite(line.loss)]

    def predictions(self) -> Iterator[tuple[str, Iterator[Prediction]]]:
        """System → its predictions, main first."""
        order = list(self.systems)
        folders: dict[str, Path] = {}
        for label, manifest in self.manifests.items():
            if label.startswith("generate@"):
                folders[str(manifest.config.get("system") or label.partition("@")[2])] = self.folders[label]
        for name in sorted(folders, key=order.index):
            path = folders[name] / "predictions.jsonl"
            if path.exists():
                yield name, read(path, Prediction)


def hide(text: str) -> str:
    """The text, as long as it was, with telephone-like numbers, e-mails, and what a label calls a name or an account blacked out."""
    # A report is made to be published. Records are masked before they come here; what a model says, or a raw row, need not be.
    return personal.hide(text, lambda found: "▇" * len(found))


def quote(text: str, limit: int) -> str:
    """A text as the report may show it: on one line, at most `limit` characters, what `hide` hides masked."""
    return _cut(_masked(" ".join(text.split())), limit)


def passage(text: str, limit: int) -> str:
    """The same with its line breaks, empty lines left out."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return _cut(_masked("\n".join(filter(None, lines))), limit)


def _masked(text: str) -> str:
    return personal.hide(text, lambda found: "▇▇▇")


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
