"""The torchrun command of a recipe, and what is checked before it starts."""

import argparse
import os
import shlex
import sys
from pathlib import Path

import pytest

from medchatzh import launch

PAPER = Path(__file__).parents[1] / "recipes" / "medchatzh-7b.toml"


def run(*words):
    parser = argparse.ArgumentParser()
    launch.add_arguments(parser)
    return launch.main(parser.parse_args([str(word) for word in words]))


def test_one_node_stands_alone(capsys):
    assert run(PAPER, "--devices", 8, "--set", "run.name=a b", "--runs", "/big/runs") == 0
    out, err = capsys.readouterr()
    expected = "python -m torch.distributed.run --standalone --nproc-per-node 8 -m medchatzh run"
    assert shlex.split(out) == [*expected.split(), str(PAPER), "--set", "run.name=a b", "--runs", "/big/runs"]
    assert not err


def test_several_nodes_have_a_line_each_and_meet_at_the_first(capsys):
    run(PAPER, "--devices", 4, "--nodes", 2, "--master-addr", "gpu1", "--stage", "sft")
    out, err = capsys.readouterr()
    first, second = map(shlex.split, out.splitlines())
    assert first[first.index("--node-rank") + 1] == "0" and second[second.index("--node-rank") + 1] == "1"
    assert first[first.index("--rdzv-endpoint") + 1] == "gpu1:29500" and first[first.index("--rdzv-backend") + 1] == "c10d"
    assert first[-2:] == ["sft", str(PAPER)]
    assert "shared file system" in err and "counts for" not in err
    run(PAPER, "--devices", 4, "--nodes", 2, "--master-addr", "gpu1:1234", "--node-rank", 1)
    (line,) = capsys.readouterr().out.splitlines()
    assert "gpu1:1234" in line and "--node-rank 1" in line


def test_another_number_of_devices_is_told(capsys):
    run(PAPER, "--devices", 4)
    err = capsys.readouterr().err
    assert "pretrain, reward, sft" in err and "counts for 8 devices, here are 4 processes: the same global batch, cut otherwise" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--devices", 8, "--nodes", 2], "give --master-addr HOST"),
        (["--devices", 8, "--nodes", 2, "--master-addr", "gpu1:99999"], "port from 1 to 65535"),
        (["--devices", 8, "--nodes", 2, "--master-addr", "gpu1:"], "port from 1 to 65535"),
        (["--devices", 8, "--node-rank", 1], "the nodes are numbered 0 to 0"),
        (["--devices", 8, "--nodes", 2, "--master-addr", "a", "--run"], "with --node-rank"),
        (["--devices", 8, "--stage", "sftt"], "no stage"),
        (["--devices", 8, "--set", "sft.rowz=1"], "did you mean sft.rows"),
    ],
)
def test_mistakes_are_told(words, message):
    with pytest.raises(ValueError, match=message):
        run(PAPER, *words)


def test_it_becomes_the_command(monkeypatch):
    called = []
    monkeypatch.setattr(os, "execv", lambda path, words: called.append((path, words)) or sys.exit(0))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    with pytest.raises(SystemExit):
        run(PAPER, "--devices", 8, "--run")
    ((path, words),) = called
    assert path == words[0] == sys.executable and words[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def test_too_few_devices_are_told_before_the_start(monkeypatch):
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("started"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    with pytest.raises(ValueError, match="--devices 8: only 4 CUDA devices here; give --devices 4"):
        run(PAPER, "--devices", 8, "--run")


def test_torchrun_understands_the_command(tmp_path):
    """Its own parser reads every option as it was meant."""
    from torch.distributed.run import parse_args

    options = argparse.Namespace(
        recipe=PAPER, devices=4, nodes=2, master_addr="gpu1", stage="", set=["sft.rows=2"], runs=tmp_path, node_rank=None
    )
    words = launch.arguments(options, 1)[2:]
    read = parse_args(words)
    assert (read.nnodes, read.node_rank, read.nproc_per_node, read.rdzv_endpoint) == ("2", 1, "4", "gpu1:29500")
    assert read.module and read.training_script == "medchatzh" and read.training_script_args[:2] == ["run", str(PAPER)]
