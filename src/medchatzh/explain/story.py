"""What an explanation says, as data."""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["kept", "dropped", "used", "set aside", "unknown"]


class Edit(msgspec.Struct, frozen=True):
    """What a repair changed in a turn: `患[-,-]{+，+}者` (`[-…-]` went, `{+…+}` came)."""

    repair: str
    turn: int
    change: str


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule, the thresholds that it looked at, and what it saw; `seen` is '' where the record passed."""

    rule: str
    thresholds: dict[str, object] = {}
    seen: str = ""


class Other(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record that this one repeats, or the benchmark question that it leaks."""

    id: str
    role: str
    text: str = ""
    similarity: float | None = None
    fate: str = ""


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one stage did."""

    stage: str
    outcome: Outcome
    reason: str = ""
    detail: str = ""
    thresholds: dict[str, object] = {}
    excerpt: str = ""
    """The text around what the rule saw, which stands in `【】`."""
    edits: tuple[Edit, ...] = ()
    checks: tuple[Check, ...] = ()
    other: Other | None = None
    notes: tuple[str, ...] = ()


class Story(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that happened to one record."""

    id: str
    kind: str
    source: str = ""
    origin: str = ""
    pool: str = ""
    text: str = ""
    """The record as it was read, shortened, personal data masked."""
    steps: tuple[Step, ...] = ()
