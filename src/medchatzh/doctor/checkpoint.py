"""Checks of the checkpoint folders that a recipe names: base, tokenizer, reward model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from medchatzh import prompt
from medchatzh.doctor.finding import Seen, check
from medchatzh.doctor.folder import problems

if TYPE_CHECKING:
    from medchatzh.doctor.subject import Subject

_WORDS = "高血压患者应低盐饮食，规律服药。Human: \nAssistant: 1. 休息；2. 多饮水 the patient"


@check("检查点文件夹不存在或不完整", "先下载到本地（huggingface-cli / modelscope，可设 HF_ENDPOINT 镜像），再填文件夹")
def checkpoint_missing(subject: Subject) -> Iterator[Seen]:
    """A checkpoint that the recipe names is no folder (a hub's name, say), an adapter alone, or holds no weights or configuration."""
    for setting, folder in subject.folders.items():
        if not folder.path.is_dir():
            is_hub = bool(re.fullmatch(r"[\w.-]+/[\w.-]+", str(folder.path)))
            what = f"{folder.path} is no folder" + ("; a hub's names are not downloaded here" if is_hub else "")
            yield "error", setting, what, "download the checkpoint, and give its folder"
        elif setting == "tokenizer.path":
            continue
        elif (folder.path / "adapter_config.json").is_file() and not folder.config:
            yield "error", setting, f"{folder.path} holds a LoRA adapter alone", "merge it into its base, and give the merged folder"
        elif not folder.config:
            yield "error", setting, f"{folder.path}: config.json is missing, or no JSON", "give the folder in which config.json lies"
        elif not folder.weight_files:
            yield "error", setting, f"{folder.path} holds no weights", "download *.safetensors (or *.bin) too"


@check("权重文件损坏、不全或只是 LFS 指针", "重新下载（git lfs pull）")
def damaged_weights(subject: Subject) -> Iterator[Seen]:
    """Weights, or a tokenizer, that are Git LFS pointers of some 130 bytes, cut off, empty, or missing shards."""
    for setting, folder in subject.folders.items():
        for file, wrong in problems(folder):
            yield "error", f"{setting}: {file}", wrong, "download that file again (git lfs pull, or huggingface-cli download)"


@check("检查点自带代码，不能直接使用", "先转换：medchatzh convert")
def remote_code(subject: Subject) -> Iterator[Seen]:
    """A checkpoint whose model class comes as code (auto_map: Baichuan, ChatGLM) and which transformers does not know by itself."""
    for setting, folder in subject.folders.items():
        if folder.config and not folder.is_known:
            kind = folder.config.get("model_type", "no model_type")
            has_code = "auto_map" in folder.config
            code = "its class comes as code (auto_map), which is not run" if has_code else "transformers does not know it"
            remedy = f"medchatzh convert {folder.path} NEW_FOLDER, and give that (Baichuan-7B becomes a plain LLaMA)"
            yield "error", f"{setting}: {folder.path / 'config.json'}", f"model_type {kind!r}: {code}", remedy


@check("检查点的类型不对", "底座需为 …ForCausalLM")
def model_kind(subject: Subject) -> Iterator[Seen]:
    """The base is no causal language model: a reward model, or an encoder such as BERT."""
    base = subject.base
    if base and (kinds := base.config.get("architectures")) and not any(str(kind).endswith("ForCausalLM") for kind in kinds):
        what = f"{base.path} is a {', '.join(map(str, kinds))}, which writes no text"
        yield "error", "pretrain.base", what, "give a …ForCausalLM checkpoint"


@check("底座与新训练的分词器不配", "把 tokenizer.path 设为底座的文件夹")
def tokenizer_of_base(subject: Subject) -> Iterator[Seen]:
    """A base is given, and its tokenizer is not used: a new one is trained, or another folder's splits text otherwise."""
    base = subject.base
    if not base or not base.path.is_dir():
        return
    remedy = f'set tokenizer.path = "{base.path}"'
    given = subject.folders.get("tokenizer.path")
    if not given:
        yield "error", "tokenizer.path", "a base is given, but a new tokenizer would be trained, whose ids mean nothing to it", remedy
        return
    if given.path.resolve() == base.path.resolve() or subject.tokenizer is None:
        return
    from medchatzh import models

    try:
        own = models.load_tokenizer(base.path)[0]
    except ValueError:
        yield "note", "tokenizer.path", f"{base.path} has no tokenizer of its own to compare with", "make sure that they belong together"
        return
    theirs, ours = own.get_vocab(), subject.tokenizer.get_vocab()
    moved = sum(ours.get(piece, number) != number for piece, number in theirs.items())
    missing = sum(piece not in ours for piece in theirs)
    if moved + missing > 0.01 * len(theirs):
        what = f"{given.path}: {missing} of the base's {len(theirs)} pieces are not in it, {moved} have another id"
        yield "error", "tokenizer.path", what, remedy


@check("分词器无法加载", "按提示补全分词器文件")
def broken_tokenizer(subject: Subject) -> Iterator[Seen]:
    """transformers cannot load the tokenizer; or it has no EOS, so that answers would never end."""
    if subject.tokenizer_problem and subject.folders.get("tokenizer.path"):
        where = f"tokenizer.path: {subject.recipe.tokenizer.path}"
        yield "error", where, subject.tokenizer_problem, "give a folder with tokenizer.json or tokenizer.model and tokenizer_config.json"


@check("EOS 不是独立的结束符", "在 tokenizer_config.json 中指定真正的 eos_token")
def eos_token(subject: Subject) -> Iterator[Seen]:
    """EOS is the unknown token, or not the one at which the base's configuration stops generation."""
    tokenizer = subject.tokenizer
    if tokenizer is None:
        return
    eos, where = tokenizer.eos_token_id, f"tokenizer.path: {subject.recipe.tokenizer.path or 'the trained tokenizer'}"
    if tokenizer.unk_token_id == eos:
        what = f"EOS is {tokenizer.eos_token!r}, the token of unknown characters: each of them would end an answer"
        yield "error", where, what, "name the real EOS in tokenizer_config.json"
    if not subject.base:
        return
    for file in ("generation_config.json", "config.json"):
        found = subject.base.table(file).get("eos_token_id")
        stops = found if isinstance(found, list) else [found]
        if found is not None and eos not in stops:
            what = f"eos_token_id is {found}, and the tokenizer's is {eos} ({tokenizer.eos_token!r}): generation would not stop"
            yield "warning", f"pretrain.base: {subject.base.path / file}", what, f"set eos_token_id to {eos}, or correct eos_token"


@check("PAD 就是 EOS，按 id 屏蔽会学不到结束", "给分词器设单独的 pad_token")
def pad_is_eos(subject: Subject) -> Iterator[Seen]:
    """PAD and EOS are one token: harmless here, where padding is masked by its place, but trainers that mask by id never learn EOS, and
    transformers reads a reward one token too early."""
    given = subject.folders.get("tokenizer.path")
    if not given or subject.tokenizer is None or subject.tokenizer.pad_token_id != subject.tokenizer.eos_token_id:
        return
    is_said = bool(given.special("pad_token"))
    what = f"PAD is EOS ({subject.tokenizer.eos_token!r}): not masked by id here, but by most who will train your checkpoint further"
    where = f"tokenizer.path: {given.path / 'tokenizer_config.json'}"
    yield "warning" if is_said else "note", where, what, 'set another "pad_token" (unk, or an unused piece)'


@check("文本中的特殊符号会变成真正的 EOS", "换用快速分词器（tokenizer.json）")
def eos_in_text(subject: Subject) -> Iterator[Seen]:
    """A user's literal `</s>` becomes the real EOS: the tokenizer does not obey split_special_tokens."""
    tokenizer = subject.tokenizer
    if tokenizer is None:
        return
    ids = prompt.encode((prompt.Turn("user", f"{tokenizer.eos_token} {_WORDS}"),), tokenizer, subject.template).input_ids
    if tokenizer.eos_token_id in ids:
        what = f"{tokenizer.eos_token!r} in a user's text becomes the EOS token"
        yield "warning", "tokenizer.path", what, "take a tokenizer that transformers loads as a fast one, or clean the text"


@check("词表与嵌入矩阵大小不符", "用与检查点配套的分词器，或扩充嵌入")
def vocabulary(subject: Subject) -> Iterator[Seen]:
    """More pieces than the model has embeddings (it would fail), far fewer (another model's tokenizer), or weights of another size than
    config.json says."""
    base = subject.base
    if not base:
        return
    said = int(base.config.get("vocab_size") or 0)
    rows = base.embedding_rows or said
    if said and rows != said:
        what = f"config.json says vocab_size {said}, and the weights have {rows} rows"
        yield "error", f"pretrain.base: {base.path}", what, "download the two from one place, or correct vocab_size"
    if subject.tokenizer is None or not rows:
        return
    pieces = len(subject.tokenizer)
    if pieces > rows:
        what = f"the tokenizer has {pieces} pieces and the model {rows} embeddings"
        yield "error", "tokenizer.path", what, "take the tokenizer that belongs to the checkpoint, or enlarge its embeddings"
    elif pieces < 0.9 * rows:
        what = f"the tokenizer has {pieces} pieces and the model {rows} embeddings: it is likely another model's"
        yield "warning", "tokenizer.path", what, "take the tokenizer that belongs to the checkpoint"


@check("提示词模板与底座不符", "改 tokenizer.template，或用 Base 版底座")
def wrong_template(subject: Subject) -> Iterator[Seen]:
    """The base converses in another template than the recipe's: training would fight what it knows, and serving by its own would fail."""
    base = subject.base
    if not base or not base.path.is_dir():
        return
    if (base.path / prompt.FILE_NAME).is_file():
        theirs = prompt.load(base.path)
        same = (theirs.user, theirs.system) == (subject.template.user, subject.template.system)
        name = theirs.name
    elif base.chat_template:
        name = base.template_name
        same = name == subject.template.name
    else:
        return
    if same:
        return
    if not base.is_chat:
        what = f"its tokenizer comes with the chat template {name or 'of its own'}, but it does not look like a chat model"
        yield "note", f"pretrain.base: {base.path}", what, f"{subject.template.name} will be the checkpoint's template"
        return
    what = f"a chat model of the template {name or 'of its own'}, and tokenizer.template is {subject.template.name}"
    known = name in prompt.TEMPLATES
    remedy = f'set tokenizer.template = "{name}"' if known else "go on from the model before its chat training (…-Base)"
    yield "warning", f"pretrain.base: {base.path}", what, remedy
