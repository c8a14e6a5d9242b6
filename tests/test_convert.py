"""Which folders `medchatzh convert` takes, and what it says of the others."""

import json

import pytest

from medchatzh.convert import convert
from tests.models import published


def test_other_folders_are_told_what_they_are(tmp_path):
    target = tmp_path / "out"

    def refused(match, table=None, file="config.json"):
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        if table is not None:
            (folder / file).write_text(table if isinstance(table, str) else json.dumps(table))
        with pytest.raises(ValueError, match=match):
            convert(folder, target)
        assert not target.exists()

    refused("folder: no checkpoint there")
    refused("config.json: .*download it again", "{")
    refused("nothing to convert: transformers and vLLM load a qwen2 model as it is", {"model_type": "qwen2"})
    refused("model_type 'chatglm' is no LLaMA in another layout; known: baichuan", {"model_type": "chatglm"})
    refused("config.json: not the configuration of a Baichuan model: .*hidden_size", {"model_type": "baichuan"})
    baichuan13 = {"model_type": "baichuan", "hidden_size": 5120, "intermediate_size": 13696, "model_max_length": 4096}
    baichuan13 |= {"num_hidden_layers": 40, "num_attention_heads": 40, "vocab_size": 64000, "architectures": ["BaichuanForCausalLM"]}
    refused("a 13B model, which knows positions by ALiBi", baichuan13)
    refused("a LoRA adapter, no whole model", {}, file="adapter_config.json")


def test_a_llama_is_one_already(tmp_path):
    with pytest.raises(ValueError, match="nothing to convert.*use this folder"):
        convert(published.llama(tmp_path / "llama"), tmp_path / "out")
