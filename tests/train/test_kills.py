"""kill -9 at MEDCHATZH_KILLS moments (1 by default) of each training stage: the same weights and metrics to the bit; full disks,
read-only folders."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medchatzh.pipeline import Plan
from medchatzh.run import SCRATCH, Context, read_manifest
from medchatzh.train.state import steps

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.toml"
KILLS = int(os.environ.get("MEDCHATZH_KILLS", "1"))
STAGES = ("pretrain", "reward", "sft", "dpo")
SETTINGS = [
    *(f"{stage}.{setting}" for stage in STAGES for setting in ("max_steps=40", "save_steps=1", "keep_states=2", "epochs=99")),
    *("pretrain.rows=4", "reward.rankings=2", "sft.rows=2", "sft.neftune_alpha=5", "dpo.rankings=2", "dpo.row_tokens=1024"),
    "pretrain.architecture={hidden_size=64, num_layers=2, num_heads=2, intermediate_size=128, max_positions=1024}",
]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """All training stages, never interrupted."""
    plan = Plan(QUICKSTART, SETTINGS, tmp_path_factory.mktemp("runs"))
    plan.run("dpo", Context(seed=43, threads=1))
    return plan


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_ends_in_the_same_weights(stage, done, tmp_path):
    shutil.copytree(done.runs, tmp_path / done.runs.name)
    folder = tmp_path / done.runs.name / done.steps[stage].folder_name
    shutil.rmtree(folder)
    scratch = folder.with_name(folder.name + ".partial") / SCRATCH
    settings = [part for assignment in SETTINGS for part in ("--set", assignment)]
    command = [sys.executable, "-m", "medchatzh", stage, str(QUICKSTART), "--runs", str(tmp_path), "--threads", "1", *settings]
    moments, num_inside = random.Random(stage), 0
    for _ in range(KILLS):
        before = max(steps(scratch), default=-1)
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while child.poll() is None and max(steps(scratch), default=-1) <= before:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 1.0 / KILLS))  # a state is written at every step: many moments fall into one
        num_inside += child.poll() is None
        child.kill()
        child.wait()
    done_again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done_again.returncode == 0, done_again.stderr
    assert num_inside
    assert read_manifest(folder).outputs == read_manifest(done.folder(stage)).outputs
    assert read_manifest(folder).facts.get("held_out") == read_manifest(done.folder(stage)).facts.get("held_out")


@pytest.mark.skipif(not Path("/dev/shm").is_dir() or os.geteuid() != 0, reason="needs a small file system of one's own: root and mount")
def test_a_full_disk_is_told_and_training_goes_on_when_there_is_room(done, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    runs = small / done.runs.name
    size = sum(path.stat().st_size for path in done.runs.rglob("*") if path.is_file())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size + 40_000_000}", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        shutil.copytree(done.runs, runs)
        folder = runs / done.steps["sft"].folder_name
        for stage in ("sft", "dpo"):
            shutil.rmtree(runs / done.steps[stage].folder_name)
        (small / "fills").write_bytes(bytes(shutil.disk_usage(small).free - 8_000_000))  # one state, not two
        settings = [part for assignment in SETTINGS for part in ("--set", assignment)]
        command = [sys.executable, "-m", "medchatzh", "sft", str(QUICKSTART), "--runs", str(small), "--threads", "1", *settings]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        assert told.returncode == 1 and "Traceback" not in told.stderr
        assert f"{runs}/sft-" in told.stderr and "cannot be written" in told.stderr and "make room and run again" in told.stderr
        assert len(steps(folder.with_name(folder.name + ".partial") / SCRATCH)) == 1
        (small / "fills").unlink()
        subprocess.run(command, check=True, capture_output=True)
        assert read_manifest(folder).outputs == read_manifest(done.folder("sft")).outputs
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_folder_that_cannot_be_written_is_told(done, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    command = [sys.executable, "-m", "medchatzh", "pretrain", str(QUICKSTART), "--runs", str(blocked)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 1 and "is a file; give a folder" in told.stderr and "Traceback" not in told.stderr
