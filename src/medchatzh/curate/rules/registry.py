"""What a rule is, what it sees, and the table of all rules."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from medchatzh.recipe import Settings
from medchatzh.records import Dialogue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from medchatzh.curate.features import Features

DEFAULT_KINDS = ("email", "id_card", "bank_card", "mobile", "hotline", "landline", "qq", "wechat", "passport", "plate")


class PoolRules(Settings, frozen=True):
    """Thresholds of one pool's rules. Lengths are characters: no tokenizer exists yet when data are curated."""

    min_answer_chars: int = 10
    """The longest answer must have this many. Medical: 10 (of 29,972 real answers 1,559 have fewer than 20, many right and
    complete: `心源性肝硬化。`, so the bound is low). General: the paper discards answers of fewer than 200 tokens."""
    max_repeats: int = 3
    """A sentence may stand this many times in one answer; a fourth makes it a loop."""
    min_loop_share: float = 0.4
    """... provided that the repeats make up this share of the answer (a recurring short remark is no loop)."""
    min_hanzi_share: float = 0.2
    """An answer to a Chinese question whose letters are hanzi by less than this share is in a foreign language."""
    echo_overlap: float = 0.9
    """Share of the answer's character pairs that stand in the question, from which on the answer is an echo ..."""
    echo_length: float = 0.5
    """... if it is also this long relative to the question: an answer picked out of a long text (general pool) is none."""
    min_advertising_signs: int = 2
    """Phrases of the trade that make an answer advertising. General: more, because there writing advertisements is a task."""
    max_junk_share: float = 0.1
    """Share of characters that are no text (lost, private-use, mojibake) above which a record is garbage."""
    max_chat_chars: int = 100
    """Chatty answers longer than this hold some substance as a rule, and are kept."""
    min_chat_markers: int = 3
    """Chat words (哈哈, 嘛, 啦, ～ …) that make a short answer colloquial ..."""
    max_chars_per_chat_marker: float = 12.0
    """... where there is also one for so many characters."""

    def __post_init__(self) -> None:
        for name in ("min_loop_share", "min_hanzi_share", "echo_overlap", "echo_length", "max_junk_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; write a share between 0 and 1")
        for name in ("min_answer_chars", "max_chat_chars", "min_chat_markers", "min_advertising_signs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; write a number of at least 0")
        if self.max_chars_per_chat_marker <= 0:
            raise ValueError(f"max_chars_per_chat_marker is {self.max_chars_per_chat_marker}; write a number above 0")
        if self.max_repeats < 1:
            raise ValueError(f"max_repeats is {self.max_repeats}; write a number of at least 1")


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

    @property
    def is_multi_turn(self) -> bool:
        return len(self.dialogue.answers) > 1

    def answers(self) -> Iterator[tuple[int, str]]:
        """(index in `dialogue.turns`, text) of each answer."""
        return ((place, turn.content) for place, turn in enumerate(self.dialogue.turns) if turn.role == "assistant")


Finder = Callable[[Case], str | Seen | None]
"""Returns what it saw (the reject's `detail`), or None where the record is fine."""

Gate = Callable[["Features", PoolRules], "NDArray[np.bool_]"]
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
    signs: tuple[str, ...] | None = None
    gate: Gate | None = None


CONTENT, PERSONAL, FORM, LENGTH = 10, 20, 30, 40
"""Orders: what the text is (garbage, refusal, advertising …) names the reason before its form and its length do."""

_RULES: dict[str, Rule] = {}


def rule(order: int, *, signs: tuple[str, ...] | None = None, gate: Gate | None = None) -> Callable[[Finder], Finder]:
    """Register a function as the rule of its name."""

    def register(find: Finder) -> Finder:
        name = getattr(find, "__name__", "")
        assert name and name not in _RULES, f"two rules are called {name!r}"
        _RULES[name] = Rule(name, order, find, signs, gate)
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
