"""A sentencepiece model as files of a tokenizer that transformers, vLLM and llama.cpp's converter read, with the same ids.

transformers' own conversion (`LlamaTokenizer`) goes wrong where a model has user-defined symbols, and Baichuan's has 390, digits and
punctuation among them: sentencepiece puts its space in front of every text, that class only in front of a text that begins with none of
them. Of 24,316 real texts 210 get other ids so; with the rules written here, none.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE_NAME = "tokenizer.model"
_SPACE = "▁"
_PRIVATE = 0xF0000
"""First of the private characters of plane 15, which no text has and no character map knows."""
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE, _BPE = 1, 2, 3, 4, 6, 2  # of sentencepiece_model.proto
_PROBES = (
    "高血压患者应低盐饮食，规律服药。",
    "38.5℃，2次/日",
    "1. 休息；\n2. 多饮水。\n\n",
    "  两个空格  ，　全角空格\t制表",
    "",
    " ",
    "，",
    "Human: \n头痛怎么办？\n\nAssistant: \n",
    "<reserved_102>你好<reserved_103>",
    "（ＡＢ）；①℃　Ⅱ度",
    "𠮷野家😀 café x²",
    "def f(x):\n        return x ** 2",
)
"""What the written tokenizer is compared on before it is handed out."""


def write(file: Path, folder: Path, pad_id: int) -> None:
    """Write tokenizer.json, tokenizer_config.json and the model itself into `folder`.

    No BOS and no EOS are added to a text. ValueError where the file is damaged, is no BPE model, or works in a way that the written
    files cannot follow.
    """
    import sentencepiece
    from transformers import PreTrainedTokenizerFast

    model = _parse(file)
    names = [piece.piece for piece in model.pieces]
    spec = model.trainer_spec
    if not 0 <= pad_id < len(names):
        raise ValueError(f"{file}: has {len(names)} pieces, but pad_token_id of config.json is {pad_id}; take the files of one checkpoint")
    backend = _backend(model)
    original = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    backend.encode_special_tokens = True
    for probe in _PROBES:
        if backend.encode(probe, add_special_tokens=False).ids != original.encode(probe):
            raise ValueError(f"{file}: transformers would give other ids than sentencepiece to {probe!r}; use the checkpoint's own code")
    backend.encode_special_tokens = False
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # LlamaTokenizer would not read the rules of tokenizer.json
        "bos_token": names[spec.bos_id],
        "eos_token": names[spec.eos_id],
        "unk_token": names[spec.unk_id],
        "pad_token": names[pad_id],
        # llama.cpp puts a BOS in front unless told, and a space by this key alone.
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": model.normalizer_spec.add_dummy_prefix,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")
    shutil.copyfile(file, folder / FILE_NAME)


def differs_in_llama_cpp(file: Path) -> bool:
    """Whether llama.cpp gives other ids to some texts, from the same file: it knows no character map, and puts the model's space behind
    every user-defined symbol, too."""
    model = _parse(file)
    spec = model.normalizer_spec
    has_symbols = any(piece.type == _USER_DEFINED for piece in model.pieces)
    return bool(spec.precompiled_charsmap or spec.remove_extra_whitespaces or (spec.add_dummy_prefix and has_symbols))


def _parse(file: Path) -> Any:
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2 as protocol

    model = getattr(protocol, "ModelProto")()  # noqa: B009  (made at run time)
    try:
        model.ParseFromString(file.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{file}: no such file; download the tokenizer of the checkpoint, it cannot be made from the weights") from None
    except DecodeError:
        model.Clear()
    if not model.pieces or model.trainer_spec.model_type != _BPE:
        raise ValueError(f"{file}: no sentencepiece BPE model; download it again")
    return model


def _backend(model: Any) -> Tokenizer:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    spec = model.normalizer_spec
    names = {kind: [piece.piece for piece in model.pieces if piece.type == kind] for kind in (_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE)}
    # ignore_merges, because a user-defined symbol stands alone in its chunk and is made by no merges.
    backend = Tokenizer(
        BPE(
            vocab={piece.piece: number for number, piece in enumerate(model.pieces)},
            merges=list(_merges(model)),
            unk_token=names[_UNKNOWN][0],
            fuse_unk=True,
            byte_fallback=True,
            ignore_merges=True,
        )
    )
    backend.normalizer = normalizers.Sequence(_steps(spec, names[_USER_DEFINED]))
    reserved = [name for kind in (_UNKNOWN, _CONTROL, _BYTE) for name in names[kind]]
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_chunks(names[_USER_DEFINED], reserved)), "isolated")
    strip = [decoders.Strip(" ", 1, 0)] if spec.add_dummy_prefix else []
    backend.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    backend.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in (*names[_UNKNOWN], *names[_CONTROL])])
    return backend


def _steps(spec: Any, symbols: Sequence[str]) -> list[Any]:
    """What happens to a text beforehand, in order. User-defined symbols are spared the character map: Baichuan's (nmt_nfkc) makes `;` of
    `；`, but `，` stays. So these are put out of its sight, as private characters, and back."""
    from tokenizers import Regex, normalizers

    steps: list[Any] = []
    if spec.precompiled_charsmap:
        mapped = normalizers.Precompiled(spec.precompiled_charsmap)
        spared = [symbol for symbol in sorted(symbols, key=len, reverse=True) if mapped.normalize_str(symbol) != symbol]
        hidden = [(symbol, chr(_PRIVATE + number)) for number, symbol in enumerate(spared)]
        steps += [normalizers.Replace(symbol, sign) for symbol, sign in hidden]
        steps += [mapped, *(normalizers.Replace(sign, symbol) for symbol, sign in hidden)]
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(_SPACE))
    return [*steps, normalizers.Replace(" ", _SPACE)]


def _merges(model: Any) -> Iterator[tuple[str, str]]:
    """Pairs in the order in which sentencepiece would join them: by the score of what they make."""
    numbers = {piece.piece: number for number, piece in enumerate(model.pieces) if piece.type == _NORMAL}
    pairs = []
    for name, number in numbers.items():
        for at in range(1, len(name)):
            left, right = name[:at], name[at:]
            if left in numbers and right in numbers:
                pairs.append((-model.pieces[number].score, numbers[left], numbers[right]))
    return ((model.pieces[left].piece, model.pieces[right].piece) for _, left, right in sorted(pairs))


def _chunks(symbols: Sequence[str], reserved: Sequence[str]) -> str:
    """A pattern of the user-defined symbols, longer ones first, and of the sign in front of what a text must not become.

    A text of `</s>` alone between two symbols would be a chunk of its own, and so the real EOS: its first sign is cut off.
    """
    rests = defaultdict(list)
    for symbol in sorted(symbols, key=len, reverse=True):
        rests[symbol[0]].append(re.escape(symbol[1:]))
    literal: dict[str, list[str]] = defaultdict(list)
    for name in reserved:
        literal[name[0]].append(re.escape(name[1:]))
    patterns = [f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in rests.items()]
    return "|".join([*patterns, *(f"{re.escape(first)}(?={'|'.join(rest)})" for first, rest in literal.items())])
