"""Fixtures of curation's tests."""

from pathlib import Path

import pytest

from medchatzh import records
from medchatzh.curate.repair import REPAIRS, repair
from medchatzh.pipeline import Plan
from medchatzh.records import Dialogue

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "public-data.toml"


@pytest.fixture(scope="session")
def real_dialogues(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Dialogue]:
    """Every medical and general dialogue that the recipe for public data reads, repaired: what rules see there."""
    plan = Plan(RECIPE, (f"data.root={shared_data}",), tmp_path_factory.mktemp("runs"))
    found = records.read(plan.run("ingest") / "dialogues.jsonl", Dialogue)
    return [repair(dialogue, tuple(REPAIRS)) for dialogue in found]
