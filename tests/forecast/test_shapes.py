"""Parameters are counted exactly, without a byte of weights."""

import msgspec
import pytest
import torch

from medchatzh.forecast import activations, shapes
from medchatzh.models import Architecture, attention
from medchatzh.train.optimization import Lora

PUBLISHED = {
    "baichuan-7b": 7_000_559_616,
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "chatglm-6b": 6_173_286_400,
    "qwen2.5-7b": 7_615_616_512,
}


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_published_models_have_their_published_sizes(name, count):
    assert shapes.count(shapes.config_of(name), name).num_parameters == count


def test_chatglm_by_arithmetic_from_its_published_shape():
    hidden, inner, layers, vocabulary = 4096, 16384, 28, 130528
    attention_part = hidden * 3 * hidden + 3 * hidden + hidden * hidden + hidden
    mlp = hidden * inner + inner + inner * hidden + hidden
    assert layers * (attention_part + mlp + 4 * hidden) + 2 * hidden + vocabulary * hidden == PUBLISHED["chatglm-6b"]


def test_baichuans_own_config_is_read_without_its_code(tmp_path):
    table = {"model_type": "baichuan", "architectures": ["BaiChuanForCausalLM"], "auto_map": {"AutoConfig": "x.Y"}, "vocab_size": 64000}
    table |= {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 11008}
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(table | {"max_position_embeddings": 4096}))
    shape = shapes.count(shapes.config_of(tmp_path), "mine")
    assert shape.num_parameters == PUBLISHED["baichuan-7b"] and shape.max_positions == 4096


def test_a_reward_model_has_a_row_in_place_of_the_head():
    causal = shapes.count(shapes.config_of("llama-7b"), "x")
    assert shapes.count(shapes.config_of("llama-7b"), "x", is_reward=True).num_parameters == causal.num_parameters - 32000 * 4096 + 4096


def test_a_tied_matrix_counts_once():
    shape = Architecture(hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64)
    tied = shapes.count(shapes.of_architecture(shape, 500), "x")
    apart = shapes.count(shapes.of_architecture(msgspec.structs.replace(shape, tie_embeddings=False), 500), "x")
    assert tied.is_tied and not apart.is_tied and apart.num_parameters - tied.num_parameters == 500 * 32


@pytest.mark.parametrize(
    ("given", "message"),
    [("nowhere", "no config.json there; give a file, a checkpoint folder, or one of baichuan-7b"), ({"model_type": "x9"}, "type 'x9'")],
)
def test_what_is_no_model_is_told(given, message):
    with pytest.raises(ValueError, match=message):
        shapes.config_of(given)


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "v_proj")])
@pytest.mark.parametrize("head", ["", "score"])
def test_adapters_are_counted_as_peft_makes_them(targets, head, tmp_path):
    pytest.importorskip("peft")
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification

    from medchatzh.train import lora

    config = shapes.of_architecture(
        Architecture(hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, tie_embeddings=False), 300
    )
    settings = Lora(rank=4, targets=targets)
    config.num_labels = 1
    model = (LlamaForSequenceClassification if head else LlamaForCausalLM)(config)
    attached = lora.attach(model, settings, head=head)
    learning = sum(parameter.numel() for parameter in attached.parameters() if parameter.requires_grad)
    assert shapes.num_trained(shapes.count(config, "x", is_reward=bool(head)), settings) == learning


def test_unknown_targets_are_told():
    shape = shapes.count(shapes.config_of("llama-7b"), "llama-7b")
    with pytest.raises(ValueError, match="lora.targets: no matrix of llama-7b is called c_attn"):
        shapes.num_trained(shape, Lora(rank=4, targets=("c_attn",)))


@pytest.mark.parametrize("half", [False, True])
def test_kept_bytes_are_those_that_autograd_keeps(half):
    """The same model on real tensors, its saved tensors weighed: equal to the byte but for the 16-bit copies of the weights."""
    from transformers import AutoModel

    config = shapes.of_architecture(Architecture(hidden_size=64, num_layers=3, num_heads=2, intermediate_size=96), 200)
    spans, tokens = [(0, 0, 70), (0, 70, 101)], 101
    kept = activations.kept(config, spans, (1, tokens), kind="packed", sixteen="autocast" if half else "")
    model = AutoModel.from_config(config, attn_implementation=attention.NAME)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    shaped_alike = {tuple(shape) for parameter in model.parameters() for shape in (parameter.shape, parameter.shape[::-1])}
    sizes, held = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        is_copy = tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in shaped_alike
        if storage.data_ptr() not in own and not is_copy:
            sizes[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, enabled=half):
        result = model(input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=False, spans=spans)
    assert result.last_hidden_state.requires_grad
    assert sum(sizes.values()) == 3 * kept.layer + kept.rest
    assert kept.between == tokens * 64 * 4
