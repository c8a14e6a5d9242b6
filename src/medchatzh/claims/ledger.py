"""The ledger: the paper's statements as data, and what checking them found."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import msgspec

from medchatzh.claims import arithmetic, measured, protocol, repository  # noqa: F401  (they register their checks)
from medchatzh.claims.costs import costs
from medchatzh.claims.world import CANNOT, CHECKS, Verdict, World

PARTS = ("arithmetic", "protocol", "repository", "measured", "outside")
"""Files of the ledger, in the order of print."""


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One sentence in both languages; a template for `str.format` over the facts, the costs and a check's numbers."""

    zh: str
    en: str

    def filled(self, values: dict[str, object]) -> Text:
        return Text(zh=self.zh.format(**values), en=self.en.format(**values))


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A statement of the paper."""

    id: str
    where: str
    """Section, table or footnote of the paper."""
    quote: str
    """The paper's words."""
    asked: Text
    """What the verdict answers, yes being `reproduced`."""
    found: Text | None = None
    """What the check saw, worded so that it holds whatever the verdict."""
    takes: Text | None = None
    """What it would take where it cannot be checked here."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A claim with its verdict, its texts filled in."""

    id: str
    part: str
    where: str
    quote: str
    asked: Text
    verdict: Verdict
    found: Text | None = None
    takes: Text | None = None
    """Only where the verdict is that it cannot be checked here."""


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    claims: list[Claim]


@cache
def load() -> dict[str, tuple[Claim, ...]]:
    """Part → claims."""
    folder = files(__package__) / "statements"
    return {part: tuple(msgspec.toml.decode((folder / f"{part}.toml").read_bytes(), type=_Part).claims) for part in PARTS}


def check(world: World) -> list[Checked]:
    """Every claim with its verdict, in the order of the ledger."""
    facts = world.facts
    shared = {name: getattr(facts, name) for name in facts.__struct_fields__} | {"cost": costs(world)}
    return [_check(claim, part, world, shared) for part, claims in load().items() for claim in claims]


def _check(claim: Claim, part: str, world: World, shared: dict[str, object]) -> Checked:
    finding = CHECKS[claim.id](world) if claim.id in CHECKS else None
    verdict = finding.verdict if finding else CANNOT
    values = shared | (finding.numbers if finding else {})
    return Checked(
        id=claim.id,
        part=part,
        where=claim.where,
        quote=claim.quote,
        asked=claim.asked,
        verdict=verdict,
        found=claim.found.filled(values) if claim.found and finding else None,
        takes=claim.takes.filled(values) if claim.takes and verdict == CANNOT else None,
    )
