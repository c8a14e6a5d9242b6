"""The thresholds of the rules, one set for each pool; each stands beside the measurement that chose it."""

from __future__ import annotations

from medchatzh.recipe import Settings


class PoolRules(Settings, frozen=True):
    """Thresholds of the rules, as medical records need them. A source can have its own (`curate.sources.<name>`)."""

    min_answer_chars: int = 6
    """The longest answer must have this many characters. Of 29,972 real answers 1,559 have fewer than 20, many right and complete
    (`心源性肝硬化。`, `需要手术完全切除。`), so the bound is low."""
    short_facts: bool = True
    """Keep a shorter answer too where the question asks for a fact (which disease, how many, yes or no) and not for advice: of 194 real
    medical answers under 6 characters all are such, and complete."""
    min_answer_tokens: int = 0
    """The longest answer must have this many tokens of `tokenizer`; 0: tokens are not counted."""
    tokenizer: str = ""
    """What counts tokens: a sentencepiece model, a `tokenizer.json`, or a folder that holds either. A path, relative to where the run is
    started."""
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
    max_refusal_share: float = 0.5
    """A dialogue is dropped where more than this share of its answers decline; fewer are a moment of a conversation."""
    min_advertising_signs: int = 2
    """Phrases of the trade in one answer that make it advertising. General: more, because there writing advertisements is a task."""
    max_junk_share: float = 0.1
    """Share of characters that are no text (lost, private-use, mojibake) above which a record is garbage."""
    max_chat_chars: int = 100
    """Chatty answers longer than this hold some substance as a rule, and are kept."""
    min_chat_markers: int = 3
    """Chat words (哈哈, 嘛, 啦, ～ …) that make a short answer colloquial ..."""
    max_chars_per_chat_marker: float = 12.0
    """... where there is also one for so many characters."""

    def __post_init__(self) -> None:
        for name in ("min_loop_share", "min_hanzi_share", "echo_overlap", "echo_length", "max_refusal_share", "max_junk_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; write a share between 0 and 1")
        for name, least in (
            ("min_answer_chars", 0),
            ("min_answer_tokens", 0),
            ("max_chat_chars", 0),
            ("min_chat_markers", 1),
            ("min_advertising_signs", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; write a number of at least {least}")
        if self.max_chars_per_chat_marker <= 0:
            raise ValueError(f"max_chars_per_chat_marker is {self.max_chars_per_chat_marker}; write a number above 0")
        if self.max_repeats < 1:
            raise ValueError(f"max_repeats is {self.max_repeats}; write a number of at least 1")
        if self.min_answer_tokens and not self.tokenizer:
            raise ValueError(f"min_answer_tokens is {self.min_answer_tokens}, but no tokenizer is named that counts them")


class GeneralRules(PoolRules, frozen=True):
    """The same thresholds, as general records need them."""

    min_answer_chars: int = 200
    """The paper, data section: general answers of fewer than 200 tokens are discarded. Characters here, as a recipe need not have a
    tokenizer when data are curated; with `min_answer_tokens = 200` it is the paper's rule."""
    short_facts: bool = False
    """The paper's rule makes no exception."""
    echo_length: float = 0.8
    min_hanzi_share: float = 0.05
    min_advertising_signs: int = 4
