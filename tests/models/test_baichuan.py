"""Baichuan → LLaMA: the logits of the original architecture, sentencepiece's own ids, little memory, and no half-done folder."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from medchatzh import models, run
from medchatzh.convert import convert
from medchatzh.models.published import baichuan, pieces
from medchatzh.models.published.weights import Weights
from medchatzh.records import Document, write
from medchatzh.train import pretrain
from tests.conftest import TEXTS
from tests.memory import peak_bytes
from tests.models import baichuan_reference as reference
from tests.models.published import write_bin

SYMBOLS = ["\n", "\t", *"0123456789，。", "```", "▁▁▁▁", "▁▁", "<h2>", "</h2>", "<reserved_102>", "<reserved_103>"]
ODD = ["", " ", "，", "38.5℃", "  两个  空格 ", "\n\n甲", "<reserved_102>你好<reserved_103>", "<h2>脉</h2>", "▁", "𠮷😀", "a\tb"]


def train_sentencepiece(**changes):
    """A tokenizer of Baichuan's kind: bytes, a space in front, symbols that never merge, ids 0 to 2 for unk, BOS and EOS."""
    import sentencepiece

    made = io.BytesIO()
    options = {
        "model_type": "bpe",
        "vocab_size": 420,
        "hard_vocab_limit": False,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "user_defined_symbols": SYMBOLS,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXTS * 20), model_writer=made, **options | changes)
    return made.getvalue()


def processor(model):
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=model)


@pytest.fixture(scope="module")
def tokenizer_model():
    return train_sentencepiece()


@pytest.fixture(scope="module")
def vocab(tokenizer_model):
    return processor(tokenizer_model).get_piece_size()


@pytest.fixture
def source(tmp_path, tokenizer_model, vocab):
    return reference.checkpoint(tmp_path / "baichuan", tokenizer_model, vocab, num_shards=3)


@pytest.fixture(scope="module")
def converted(tmp_path_factory, tokenizer_model, vocab):
    folder = tmp_path_factory.mktemp("converted")
    convert(reference.checkpoint(folder / "baichuan", tokenizer_model, vocab), folder / "llama")
    return folder / "llama"


def compared(folder, vocab, **options):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(0, vocab, (1, 100), generator=torch.Generator().manual_seed(0))
    expected = reference.logits(reference.tensors(vocab), ids[0].tolist(), **options)
    with torch.inference_mode():
        return (model(ids).logits[0] - expected).abs().max().item(), expected.abs().max().item()


@pytest.mark.parametrize("shard_bytes", [20_000, 1 << 30])
def test_logits_are_those_of_the_original_architecture(source, vocab, tmp_path, shard_bytes):
    baichuan.convert(source, tmp_path / "llama", shard_bytes)
    difference, largest = compared(tmp_path / "llama", vocab)
    assert difference <= 1e-5 < 1 < largest
    shards = list((tmp_path / "llama").glob("*.safetensors"))
    assert len(shards) > 1 and max(file.stat().st_size for file in shards) <= Weights(source).largest_file_bytes


def test_baichuan2s_head_is_scaled_once_and_for_all(tmp_path, tokenizer_model, vocab):
    source = reference.checkpoint(tmp_path / "baichuan2", tokenizer_model, vocab, architectures=["BaichuanForCausalLM"])
    convert(source, tmp_path / "llama")
    assert compared(tmp_path / "llama", vocab, norm_head=True)[0] <= 1e-5
    assert compared(tmp_path / "llama", vocab)[0] > 0.1, "the two heads are the same"


def test_the_folder_is_a_plain_llama(converted, vocab, tokenizer_model):
    config = LlamaConfig.from_pretrained(converted)
    assert (config.vocab_size, config.bos_token_id, config.eos_token_id, config.pad_token_id) == (vocab, 1, 2, 0)
    assert (config.rms_norm_eps, config.rope_parameters["rope_theta"], config.tie_word_embeddings) == (1e-6, 10000.0, False)
    assert config.num_key_value_heads == reference.HEADS and config.max_position_embeddings == reference.POSITIONS
    assert sorted(file.name for file in converted.iterdir() if not file.name.startswith("model")) == [
        "config.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
    ], "code, or a file that is not needed"
    assert (converted / "tokenizer.model").read_bytes() == tokenizer_model
    assert not any("W_pack" in name or "inv_freq" in name for name in Weights(converted).names)


def test_half_precision_stays_as_it_is(tmp_path, tokenizer_model, vocab):
    source = reference.checkpoint(tmp_path / "baichuan", tokenizer_model, vocab, dtype=torch.bfloat16)
    convert(source, tmp_path / "llama")
    made, original = Weights(tmp_path / "llama"), Weights(source)
    rows = original.read("model.layers.1.self_attn.W_pack.weight")
    parts = [made.read(f"model.layers.1.self_attn.{part}_proj.weight") for part in "qkv"]
    assert torch.equal(torch.cat(parts), rows) and rows.dtype == torch.bfloat16
    assert models.describe(tmp_path / "llama")["torch_dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "llama", dtype="auto").dtype == torch.bfloat16


def test_tokenizer_gives_sentencepieces_ids_and_the_text_back(converted, tokenizer_model):
    tokenizer, original = AutoTokenizer.from_pretrained(converted), processor(tokenizer_model)
    for text in [*TEXTS, *ODD]:
        ids = tokenizer(text)["input_ids"]
        assert ids == original.encode(text), text
        assert tokenizer.decode(ids) == original.decode(ids)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id) == (1, 2, 0, 0)
    assert tokenizer("<reserved_102>")["input_ids"] == [original.piece_to_id("▁"), original.piece_to_id("<reserved_102>")]
    assert len(tokenizer) == original.get_piece_size()


PARTS = st.sampled_from([*SYMBOLS, " ", "  ", "▁", "患者", "高血压", "x", "𠮷", "é", "\r", "<", "</", "s>", "℃"])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(PARTS, max_size=12))
def test_tokenizer_gives_sentencepieces_ids_to_any_text(converted, tokenizer_model, parts):
    tokenizer = AutoTokenizer.from_pretrained(converted)
    text = "".join(parts)
    if not any(name in text for name in ("<s>", "</s>", "<unk>")):
        assert tokenizer(text, split_special_tokens=True)["input_ids"] == processor(tokenizer_model).encode(text)


@pytest.mark.parametrize("literal", ["</s>", "<s>", "<unk>", "<0x0A>"])
@pytest.mark.parametrize("around", ["{}", "1{}，", "\n{}\n", "前{}后"])
def test_a_literal_special_token_stays_text(converted, literal, around):
    tokenizer, _ = models.load_tokenizer(converted)
    text = around.format(literal)
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert tokenizer.decode(ids) == text and not {0, 1, 2} & set(ids)


BEFOREHAND = [
    {"add_dummy_prefix": False},
    {"remove_extra_whitespaces": True},
    {"normalization_rule_name": "nmt_nfkc"},
    {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True, "add_dummy_prefix": False},
]


@pytest.mark.parametrize("changes", BEFOREHAND)
def test_what_a_model_does_to_its_text_beforehand_is_kept(tmp_path, changes):
    model = train_sentencepiece(**changes)
    (tmp_path / "tokenizer.model").write_bytes(model)
    (tmp_path / "out").mkdir()
    pieces.write(tmp_path / "tokenizer.model", tmp_path / "out", 0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in [*TEXTS, *ODD, "１２ＡＢ；，（；）", " 前 后  ", "　全角\r\n；\n", "ﬁ①Ⅱ℃e\u0301\u200b～"]:
        if text != "▁":  # where spaces are removed, sentencepiece takes a lone one of its own signs for a space
            assert tokenizer(text)["input_ids"] == processor(model).encode(text), text


def test_baichuans_own_vocabulary(shared_data, tmp_path):
    """Its 64,000 pieces as they are published as text; kinds and scores follow from their order. (The model itself is not at hand.)"""
    from sentencepiece import sentencepiece_model_pb2 as protocol

    listed = (shared_data / "tokenizer" / "baichuan_vocab.txt").read_text("utf-8")
    model, start = protocol.ModelProto(), 0
    for number in range(64_000):
        tail = f"\t{number}\n"
        end = listed.index(tail, start + listed[start].isspace())
        model.pieces.add(piece=listed[start:end], score=0)
        start = end + len(tail)
    bytes_start = next(number for number, piece in enumerate(model.pieces) if piece.piece == "<0x00>")
    kinds = {0: 2, 1: 3, 2: 3} | dict.fromkeys(range(3, bytes_start), 4) | dict.fromkeys(range(bytes_start, bytes_start + 256), 6)
    for number, piece in enumerate(model.pieces):
        piece.type = kinds.get(number, 1)
        piece.score = -float(max(0, number - bytes_start - 255))
    model.trainer_spec.model_type, model.trainer_spec.byte_fallback = 2, True
    model.normalizer_spec.remove_extra_whitespaces = False
    # Of its pieces that merge only the wave dash is changed by NFKC, which is what sentencepiece's own rule excepts: it works by that rule.
    ruled = protocol.ModelProto.FromString(train_sentencepiece(normalization_rule_name="nmt_nfkc"))
    model.normalizer_spec.precompiled_charsmap = ruled.normalizer_spec.precompiled_charsmap
    (tmp_path / "tokenizer.model").write_bytes(model.SerializeToString())
    (tmp_path / "out").mkdir()
    pieces.write(tmp_path / "tokenizer.model", tmp_path / "out", 0)
    tokenizer, original = AutoTokenizer.from_pretrained(tmp_path / "out"), processor(model.SerializeToString())
    assert tokenizer("<reserved_102>")["input_ids"] == [31106, 195], "as seen of Baichuan's own"
    lines = (shared_data / "medical" / "medicalgpt" / "medical_sft_1K_format.jsonl").read_text("utf-8").splitlines()
    texts = [turn["value"] for line in lines for turn in json.loads(line)["conversations"]]
    assert tokenizer(texts)["input_ids"] == original.encode(texts)


@pytest.mark.slow
def test_memory_stays_below_the_largest_shard(tmp_path, tokenizer_model):
    """Three shards of 150 MB; what is needed beyond the libraries themselves, mapped pages among it."""
    folder, width = tmp_path / "baichuan", 512
    folder.mkdir()
    inner, layers, vocab = 1536, 130, processor(tokenizer_model).get_piece_size()
    changes = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers, "vocab_size": vocab}
    (folder / "config.json").write_text(json.dumps(reference.CONFIG | changes))
    (folder / "tokenizer.model").write_bytes(tokenizer_model)
    shapes = {"self_attn.W_pack": (3 * width, width), "self_attn.o_proj": (width, width), "mlp.down_proj": (width, inner)}
    shapes |= {"mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width)}
    shapes |= {"input_layernorm": (width,), "post_attention_layernorm": (width,)}
    tensors = {
        f"model.layers.{n}.{part}.weight": torch.full(shape, float(n)).half() for n in range(layers) for part, shape in shapes.items()
    }
    tensors |= {"model.norm.weight": torch.ones(width).half()}
    tensors |= {name: torch.zeros(vocab, width).half() for name in ("model.embed_tokens.weight", "lm_head.weight")}
    write_bin(folder, tensors, num_shards=6)
    needed = peak_bytes("from medchatzh.convert import convert", 'convert(Path("baichuan"), Path("llama"))', tmp_path)
    largest = Weights(folder).largest_file_bytes
    assert 100 << 20 < largest < 200 << 20
    assert needed <= 1.3 * largest, f"{needed / largest:.2f} of the largest shard"
    assert float(Weights(tmp_path / "llama").read("model.layers.99.self_attn.v_proj.weight")[0, 0]) == 99


def test_pre_training_starts_from_it(converted, tmp_path):
    (tmp_path / "books").mkdir()
    documents = [Document(id=str(n), source="books", origin=f"books:{n}", text=text, book=str(n)) for n, text in enumerate(TEXTS * 4)]
    write(tmp_path / "books" / "documents.jsonl", documents)
    config = pretrain.Config(base=str(converted), epochs=0, row_tokens=64, rows=2, precision="fp32")
    inputs = {"tokenizer": converted, "books": tmp_path / "books"}
    (tmp_path / "out" / run.SCRATCH).mkdir(parents=True)
    pretrain.run(config, inputs, tmp_path / "out", run.Context(seed=1, threads=1))
    trained, original = Weights(tmp_path / "out" / "checkpoint"), Weights(converted)
    assert all(torch.equal(trained.read(name), original.read(name)) for name in original.names)
    kept = AutoTokenizer.from_pretrained(tmp_path / "out" / "checkpoint")
    assert kept("38.5℃，\n")["input_ids"] == AutoTokenizer.from_pretrained(converted)("38.5℃，\n")["input_ids"]


class _Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the pickle was run')",))


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir() if path.name.startswith(folder.name))


def test_errors_name_the_file_and_the_remedy_and_leave_nothing(source, tmp_path):
    target = tmp_path / "llama"

    def refused(match):
        with pytest.raises(ValueError, match=match):
            convert(source, target)
        assert left(target) == []

    (source / "tokenizer.model").rename(tmp_path / "aside")
    refused("baichuan/tokenizer.model: no such file; download the tokenizer")
    (source / "tokenizer.model").write_bytes((tmp_path / "aside").read_bytes()[:1000])
    refused("tokenizer.model: no sentencepiece BPE model; download it again")
    (tmp_path / "aside").rename(source / "tokenizer.model")
    shard = source / "pytorch_model-00002-of-00003.bin"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    refused("pytorch_model-00002-of-00003.bin: .* download it again")
    shard.unlink()
    refused("pytorch_model-00002-of-00003.bin: no such file, .* download the checkpoint again")
    shard.write_bytes(whole)
    torch.save(torch.load(shard, weights_only=True) | {"model.layers.0.self_attn.o_proj.weight": _Bomb()}, shard)
    refused("pytorch_model-00002-of-00003.bin: .* more than tensors, perhaps code, and none is run")
    shard.write_bytes(whole)
    convert(source, target)
    with pytest.raises(ValueError, match="llama: exists already"):
        convert(source, target)


def test_tensors_that_do_not_belong_there_are_told(source, vocab, tmp_path):
    def refused(tensors, match):
        write_bin(source, tensors, num_shards=3)
        with pytest.raises(ValueError, match=match):
            convert(source, tmp_path / "llama")

    whole = reference.tensors(vocab)
    name = "model.layers.1.self_attn.W_pack.weight"
    refused({key: value for key, value in whole.items() if key != name}, f"lacks {name} \\(1 in all")
    refused(whole | {"model.layers.9.mlp.up_proj.weight": whole["lm_head.weight"]}, "unknown tensor, model.layers.9.mlp.up_proj.weight")
    refused(whole | {name: whole[name][:-1]}, f"{name} is .191, 64., by config.json it is .192, 64.")
    refused(whole | {"lm_head.weight": whole["lm_head.weight"][:-1]}, "lm_head.weight is .*: files of two checkpoints")


def test_a_killed_conversion_leaves_no_folder_and_is_begun_anew(source, vocab, tmp_path, monkeypatch):
    read = Weights.read

    def failing(self, name):
        if "layers.2." in name:
            raise KeyboardInterrupt
        return read(self, name)

    monkeypatch.setattr(Weights, "read", failing)
    with pytest.raises(KeyboardInterrupt):
        baichuan.convert(source, tmp_path / "llama", shard_bytes=20_000)
    assert left(tmp_path / "llama") == ["llama.partial"]
    monkeypatch.setattr(Weights, "read", read)
    convert(source, tmp_path / "llama")
    assert left(tmp_path / "llama") == ["llama"] and compared(tmp_path / "llama", vocab)[0] <= 1e-5


def test_a_full_disk_leaves_nothing_half_done(source, tmp_path):
    """No file may grow beyond 100 kB in that process: what writing to a full disk looks like to the library."""
    program = f"""
import resource, signal, sys
from medchatzh.convert import convert
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    convert(Path("{source}"), Path("{tmp_path / "llama"}"))
except (ValueError, OSError) as error:
    sys.exit(str(error))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 1 and "llama.partial: cannot be written" in done.stderr, done.stderr
    assert os.strerror(errno.EFBIG) in done.stderr and "free some space" in done.stderr
    assert left(tmp_path / "llama") == []
