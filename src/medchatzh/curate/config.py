"""What curation does: the settings of `[curate]`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from medchatzh.curate.benchmark import Decontamination
from medchatzh.curate.duplicates import Duplicates
from medchatzh.curate.privacy import DEFAULT_KINDS, KINDS
from medchatzh.curate.repair import REPAIRS
from medchatzh.curate.rules import GeneralRules, PoolRules, all_rules, check_names, chosen
from medchatzh.recipe import Settings


class Config(Settings, frozen=True, kw_only=True):
    """What curation does; every threshold of a rule stands in `PoolRules`, once for each pool."""

    general: GeneralRules = GeneralRules()
    """The paper, data section: general answers of fewer than 200 tokens are discarded. Characters here, as no tokenizer exists yet."""
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
    """What counts as personal data."""
    trim_boilerplate: bool = False
    """Take the site's recurring courtesy (found by sentence frequency) from the ends of answers."""
    duplicates: Duplicates = Duplicates()
    decontamination: Decontamination = Decontamination()

    def __post_init__(self) -> None:
        chosen(self.rules)
        check_names("repairs", self.repairs, tuple(REPAIRS))
        check_names("personal_kinds", self.personal_kinds, KINDS)
        for source in self.sources:
            for pool in ("general", "medical"):
                self.thresholds(pool, source)

    def thresholds(self, pool: str, source: str) -> PoolRules:
        """The thresholds in force for a source of a pool; ValueError for a threshold that is none."""
        rules: PoolRules = getattr(self, pool)
        changes = self.sources.get(source)
        if not changes:
            return rules
        check_names(f"sources.{source}", tuple(changes), tuple(rules.__struct_fields__))
        try:
            return msgspec.convert(msgspec.structs.asdict(rules) | changes, type(rules))
        except msgspec.ValidationError as error:
            raise ValueError(f"sources.{source}: {error}") from None
