"""The first losses of the quickstart: what changes them changes all that is learnt. `python tests/train/test_golden.py` rewrites them."""

import json
import tempfile
from pathlib import Path

import pytest

from medchatzh.pipeline import Plan
from medchatzh.run import Context
from medchatzh.train.state import METRICS, read_log

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "quickstart_losses.json"
STAGES = ("pretrain", "reward", "sft")
SETTINGS = [f"{stage}.{setting}" for stage in STAGES for setting in ("max_steps=20", "precision=fp32")]


def losses(runs):
    plan = Plan(ROOT / "recipes" / "quickstart.toml", SETTINGS, runs)
    plan.run("sft", Context(seed=plan.seed, threads=1))
    return {stage: [entry["loss"] for entry in read_log(plan.folder(stage) / METRICS)] for stage in STAGES}


def test_the_quickstart_learns_as_it_did(tmp_path):
    expected = json.loads(GOLDEN.read_text("utf-8"))
    found = losses(tmp_path)
    for stage in STAGES:  # a percent: other processors and libraries sum otherwise, and 20 steps make more of it
        assert found[stage] == pytest.approx(expected[stage], rel=1e-2), stage
        assert len(found[stage]) == 20


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        lines = (f'  "{stage}": {json.dumps(values)}' for stage, values in losses(Path(folder)).items())
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
