"""What curation does: the settings of `[curate]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from medchatzh.curate.privacy import DEFAULT_KINDS, KINDS, in_pool
from medchatzh.curate.repair import REPAIRS
from medchatzh.curate.rules import GeneralRules, PoolRules, all_rules, check_names, chosen
from medchatzh.curate.rules.tokens import tokenizer_file
from medchatzh.recipe import Settings, convert


class Duplicates(Settings, frozen=True, kw_only=True):
    """Which records count as repetitions of another."""

    exact: bool = True
    """Drop records that equal an earlier one but for width, case, white space and punctuation."""
    near: bool = True
    """Drop records that are nearly an earlier one. A record is compared with at most 64 kept ones of a MinHash key, so that where thousands
    of answers share one template some near duplicates stay (recall .968 there)."""
    min_similarity: float = 0.8
    """Jaccard similarity of the sets of five-character shingles of question and answers from which on a record is a near duplicate."""
    same_question: Literal["keep", "first", "longest"] = "keep"
    """Several answers to one question: keep all (a question may be answered in many ways), the first, or the longest."""

    def __post_init__(self) -> None:
        if not 0.75 <= self.min_similarity <= 1:
            raise ValueError(f"min_similarity is {self.min_similarity}; write a share from 0.75 (below, MinHash misses candidates) to 1")


class Decontamination(Settings, frozen=True):
    """When a record counts as part of the benchmark. Exact equality of the (normalised) question always does."""

    gram_chars: int = 13
    """Length of the n-grams, in characters. 13 is the usual length for decontamination (GPT-3, appendix C, in words; in Chinese
    characters it is about a clause, shorter grams meet by chance)."""
    min_containment: float = 0.8
    """Share of the shorter text's n-grams that the other must hold. 1.0 leaves exact containment only. An answer must hold the reference;
    that a reference holds an answer tells little, since short answers are alike."""
    min_grams: int = 8
    """Questions with fewer n-grams (under 20 characters) are compared for equality and nearness only."""
    min_similarity: float = 0.8
    """Jaccard similarity of five-character shingles from which on two texts are near; above 1 for never."""
    min_answer_chars: int = 20
    """An answer equal to a reference counts as a leak from this length on; shorter ones (`多喝水，注意休息。`) meet by chance."""
    min_near_answer_chars: int = 40
    """An answer that holds a reference, or is near it, counts from this length on."""
    min_line_chars: int = 8
    """A line of a user turn (title and body are joined by a line break) that equals a question counts from this length on, in
    characters without punctuation; shorter ones (`怎么办？`) meet by chance. A whole turn always counts."""

    def __post_init__(self) -> None:
        if self.gram_chars < 2 or self.min_grams < 1 or self.min_line_chars < 1:
            raise ValueError("decontamination: gram_chars must be at least 2, min_grams and min_line_chars at least 1")
        if not 0 < self.min_containment <= 1:
            raise ValueError(f"decontamination.min_containment is {self.min_containment}; write a share in (0, 1]")
        if self.min_similarity < 0.75:
            raise ValueError(f"decontamination.min_similarity is {self.min_similarity}; write 0.75 or more")


class Config(Settings, frozen=True, kw_only=True):
    """What curation does; every threshold of a rule stands in `PoolRules`, once for each pool."""

    general: GeneralRules = GeneralRules()
    """The paper, data section: general answers of fewer than 200 tokens are discarded. Characters, unless a tokenizer is named."""
    medical: PoolRules = PoolRules()
    """Low bounds: about 90 % of genuine doctors' answers are shorter than 200 characters."""
    sources: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    """Source → thresholds that replace its pool's: `[curate.sources.toyhom] min_answer_chars = 6`."""
    rules: tuple[str, ...] = tuple(rule.name for rule in all_rules())
    """Rules in force. They speak in a fixed order, whatever the order here."""
    repairs: tuple[str, ...] = tuple(REPAIRS)
    """Repairs in force, in a fixed order too."""
    personal_data: Literal["drop", "mask"] = "drop"
    """The paper drops records with personal data. `mask` keeps them, each value replaced by its kind (`<手机>`)."""
    personal_kinds: tuple[str, ...] = DEFAULT_KINDS
    """What counts as personal data. `url` is a page or a chat of one person, or an address that advertises; `link` any other web address
    that begins with http:// or www., in medical records only. `hospital` is off: named hospitals stand in one medical record of 400."""
    trim_boilerplate: bool = False
    """Take the site's recurring courtesy (found by sentence frequency) from the ends of answers."""
    duplicates: Duplicates = Duplicates()
    decontamination: Decontamination = Decontamination()

    def __post_init__(self) -> None:
        chosen(self.rules)
        check_names("repairs", self.repairs, tuple(REPAIRS))
        check_names("personal_kinds", self.personal_kinds, KINDS)
        rules = self._all_thresholds()
        if idle := {one.tokenizer for one in rules if one.tokenizer} - {one.tokenizer for one in rules if one.min_answer_tokens}:
            raise ValueError(f"tokenizer {min(idle)}: counts nothing, as min_answer_tokens is 0; set it, or leave the tokenizer out")

    @property
    def masks(self) -> bool:
        """Whether personal data is masked, and its record kept."""
        return self.personal_data == "mask" and "personal_data" in self.rules

    def kinds(self, pool: str) -> tuple[str, ...]:
        """What counts as personal data in a pool."""
        return in_pool(self.personal_kinds, pool)

    def files(self) -> dict[str, Path]:
        """The tokenizers that answers are counted by: other tokenizers give other records."""
        named = {one.tokenizer for one in self._all_thresholds() if one.min_answer_tokens}
        return {f"tokenizer {name}": tokenizer_file(name) for name in sorted(named)}

    def _all_thresholds(self) -> list[PoolRules]:
        """Those of the pools, and of each source as if of either pool."""
        of_sources = (self.thresholds(pool, source) for source in self.sources for pool in ("general", "medical"))
        return [self.general, self.medical, *of_sources]

    def thresholds(self, pool: str, source: str) -> PoolRules:
        """The thresholds in force for a source of a pool; ValueError for a threshold that is none."""
        rules: PoolRules = getattr(self, pool)
        changes = self.sources.get(source)
        if not changes:
            return rules
        check_names(f"sources.{source}", tuple(changes), tuple(rules.__struct_fields__))
        return convert(msgspec.structs.asdict(rules) | changes, type(rules), f"sources.{source}")
