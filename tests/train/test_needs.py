"""What a step's rows are dealt to, and what settings need of the machine."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medchatzh import cli
from medchatzh.train import needs
from medchatzh.train.optimization import Lora, Optimization, deal
from tests.test_pipeline import QUICKSTART


@given(num_units=st.integers(1, 500), most=st.integers(1, 20), processes=st.integers(1, 40))
def test_every_unit_is_dealt_once_and_evenly(num_units, most, processes):
    num_micro, size = deal(num_units, most, processes)
    assert size <= most and num_micro * size * processes >= num_units
    assert num_micro == -(-num_units // (most * processes)), "no more micro batches than must be"
    busy = [len(range(num_units)[first : first + size]) for first in range(0, num_micro * size * processes, size)]
    assert sum(busy) == num_units
    if num_units >= processes:
        assert max(busy) > 0 and len([each for each in busy[:processes] if not each]) <= processes / 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "fp16"}, "precision = 'fp16' needs CUDA"),
        ({"attention": "flash"}, "attention = 'flash' needs CUDA"),
        ({"kernels": "liger"}, "kernels = 'liger' needs CUDA"),
        ({"sharding": "zero2"}, "needs several processes"),
        ({"lora": Lora(rank=4, quantized=True)}, "lora.quantized needs CUDA"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can do most of it")
def test_what_cannot_work_here_is_told_before_any_stage_runs(changes, message, tmp_path, capsys):
    config = Optimization(**changes)
    with pytest.raises(ValueError, match=message):
        needs.check(config, 1)
    setting, value = next(iter(changes.items()))
    settings = (
        ["--set", "sft.lora.rank=4", "--set", "sft.lora.quantized=true"] if setting == "lora" else ["--set", f"sft.{setting}={value}"]
    )
    assert cli.main(["run", str(QUICKSTART), "--runs", str(tmp_path / "runs"), *settings]) == 1
    told = capsys.readouterr().err
    assert "sft." in told and message in told
    assert not list((tmp_path / "runs").rglob("manifest.json"))
