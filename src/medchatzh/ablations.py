"""The ablations that a recipe asks for by name (figure 2 of the paper, and beyond): what each one changes in the recipe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from medchatzh.recipe import Settings

WITHOUT: dict[str, dict[str, Any]] = {
    "books": {"pretrain": {"epochs": 0}},
    "medical": {"sft": {"pools": ["general"]}},
    "general": {"sft": {"pools": ["medical"]}},
    "reward_filter": {"score": {"kind": "none"}},
    "near_duplicates": {"curate": {"duplicates": {"near": False}}},
    "repairs": {"curate": {"repairs": []}},
}
"""Part of the method → what leaves it out. The paper's figure 2 leaves out `medical`."""
EACH_RULE = "each_rule"


class Config(Settings, frozen=True, kw_only=True):
    """`[ablation]`: arms by name, beside those that `[arms]` spells out, and the seeds of all of them."""

    without: tuple[str, ...] = ()
    """`books` (no continued pre-training), `medical`, `general`, `reward_filter`, `near_duplicates`, `repairs`, a rule of curation, or
    `each_rule` for an arm without each rule in force. An arm is called `no_` and its name."""
    seeds: tuple[int, ...] = ()
    """Seeds beside the run's own with which the main system and every arm are trained once more. A difference between two trainings is
    not one between two recipes: with three seeds or more the report says how far they lie apart."""

    def __post_init__(self) -> None:
        if any(not 0 <= seed < 2**32 for seed in self.seeds) or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)}: write each once, from 0 to {2**32 - 1}")

    def arms(self, rules: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Arm → changes to the recipe. `rules`: those of curation that are in force. ValueError for a name that is none."""
        names = [name for asked in self.without for name in (rules if asked == EACH_RULE else (asked,))]
        found = {}
        for name in dict.fromkeys(names):
            if name not in WITHOUT and name not in rules:
                known = ", ".join((*WITHOUT, EACH_RULE, *rules))
                raise ValueError(f"without: {name!r} is no part to leave out; known: {known}")
            left = WITHOUT.get(name) or {"curate": {"rules": [rule for rule in rules if rule != name]}}
            found[f"no_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}"] = left
        return found
