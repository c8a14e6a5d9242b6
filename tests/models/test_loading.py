"""Checkpoints of others: code that lies in a folder is never run, and nobody is asked whether to."""

import json
import shutil

import pytest

from medchatzh import models

PLANTED = "from pathlib import Path\nPath({ran!r}).touch()\n"


@pytest.mark.parametrize("what", ["model", "reward", "tokenizer"])
def test_code_in_a_checkpoint_is_never_run(checkpoint, tmp_path, monkeypatch, what):
    folder, ran = tmp_path / "foreign", tmp_path / "ran"
    shutil.copytree(checkpoint, folder)
    (folder / "planted.py").write_text(PLANTED.format(ran=str(ran)))
    if what == "tokenizer":
        file, changes = folder / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["planted.Mine", None]}, "tokenizer_class": "Mine"}
        (folder / "config.json").unlink()
    else:
        file = folder / "config.json"
        changes = {"model_type": "mine", "auto_map": {"AutoConfig": "planted.Config", "AutoModelForCausalLM": "planted.Model"}}
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # what transformers would ask
    load = {"model": models.load_causal, "reward": models.load_reward, "tokenizer": models.load_tokenizer}[what]
    with pytest.raises(ValueError, match="code of its own, which is never run; of Baichuan-7B `medchatzh convert`"):
        load(folder)
    assert not ran.exists()
