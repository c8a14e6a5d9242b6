"""What a rule is, what it sees, and the table of all rules."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from medchatzh.curate.privacy import DEFAULT_KINDS
from medchatzh.curate.rules.thresholds import PoolRules
from medchatzh.records import Dialogue

if TYPE_CHECKING:
    from medchatzh.curate.features import Features, Mask


class Seen(NamedTuple):
    """What a rule saw, and where: `dialogue.turns[turn].content[start:end]`."""

    detail: str
    turn: int
    start: int
    end: int


class Case(NamedTuple):
    """What a rule sees of a record: the first question, all answers joined by line ends, the thresholds, and what the corpus taught."""

    dialogue: Dialogue
    question: str
    answer: str
    settings: PoolRules
    personal_kinds: tuple[str, ...] = DEFAULT_KINDS
    boilerplate: frozenset[str] = frozenset()
    """Normalised sentences that stand in the answers to many different questions (`medchatzh.curate.boilerplate`)."""

    @classmethod
    def of(cls, dialogue: Dialogue, settings: PoolRules, **more: Any) -> Case:
        """A record under some thresholds. `more`: `personal_kinds`, `boilerplate`."""
        return cls(dialogue, dialogue.question, "\n".join(dialogue.answers), settings, **more)

    @property
    def is_multi_turn(self) -> bool:
        return len(self.dialogue.answers) > 1

    def answers(self) -> Iterator[tuple[int, str]]:
        """(index in `dialogue.turns`, text) of each answer."""
        return ((place, turn.content) for place, turn in enumerate(self.dialogue.turns) if turn.role == "assistant")


Finder = Callable[[Case], str | Seen | None]
"""Returns what it saw (the reject's `detail`), or None where the record is fine."""

Signs = tuple[str, ...]
Gate = Callable[["Features", PoolRules], "Mask"]
"""Which records of a shard the rule must look at, [num_records]: all on which it could fire under these thresholds, and few others."""


class Rule(NamedTuple):
    """A named check. The name is the reason that its rejects carry; rules of lower `order` speak first.

    Looking at a record costs microseconds, and most records need no look: of `signs`, one stands in some turn of every record on which
    the rule fires (compared after width folding and lower-casing); `gate` says it in numbers. Where both are given both must hold; with
    neither, every record is looked at.
    """

    name: str
    order: int
    find: Finder
    signs: Signs | None = None
    gate: Gate | None = None
    groups: tuple[Signs, ...] = ()
    """All strings that must be looked for: `signs`, and what the gate asks `features.has` for."""


CONTENT, PERSONAL, FORM, LENGTH = 10, 20, 30, 40
"""Orders: what the text is (garbage, refusal, advertising …) names the reason before its form and its length do."""

_RULES: dict[str, Rule] = {}


def rule(order: int, *, signs: Signs | None = None, gate: Gate | None = None, groups: tuple[Signs, ...] = ()) -> Callable[[Finder], Finder]:
    """Register a function as the rule of its name. `groups`: what the gate itself asks `features.has` for."""

    def register(find: Finder) -> Finder:
        name = getattr(find, "__name__", "")
        assert name and name not in _RULES, f"two rules are called {name!r}"
        _RULES[name] = Rule(name, order, find, signs, gate, (*([signs] if signs else ()), *groups))
        return find

    return register


def all_rules() -> tuple[Rule, ...]:
    """Every rule in the order in which they speak."""
    return tuple(sorted(_RULES.values(), key=lambda known: (known.order, known.name)))


def chosen(names: tuple[str, ...]) -> tuple[Rule, ...]:
    """The named rules; ValueError with a suggestion for a name that is none."""
    check_names("rules", names, tuple(_RULES))
    return tuple(known for known in all_rules() if known.name in names)


def check_names(field: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raise ValueError for a name that is not known, with the nearest one that is."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise ValueError(f"{field}: unknown name {name!r}; {hint}")
