"""Write golden/baselines.json: run each baseline's own code on tiny checkpoints and keep what it did.

    python tests/models/record_baselines.py REPOS

REPOS holds clones of SCIR-HI/Huatuo-Llama-Med-Chinese, FreedomIntelligence/HuatuoGPT, SCIR-HI/Med-ChatGLM and tyang816/MedChatZH, each
under its last name. Needs the versions of that time before those of today: pip install --target OLD --no-deps transformers==4.30.1
tokenizers==0.13.3 huggingface_hub==0.16.4 peft==0.3.0 accelerate==0.20.1 protobuf==3.20.3 'setuptools<80' psutil, and PYTHONPATH=OLD.
Nothing of their code is changed; what is replaced stands around it: no GPU, no half precision, no compilation, no web page, no download.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import runpy
import sys
import tempfile
import types
from pathlib import Path

import published
import torch
import transformers

QUESTIONS = [
    "我感冒了，怎么治疗？",
    "高血压患者平时要注意什么？\n饮食上呢？",
    " 小儿发热38.5℃，要吃退烧药吗 ",
    "Assistant: \n和### 回答:是什么意思？</s>",
    "失眠多梦，心烦口干，舌红少苔，脉细数，怎么办？" * 28,
]
DIALOGUES = [
    ["我头疼", "疼了多久了?", "两天了"],
    ["我头疼", "疼了多久了?", "两天了", "有发热吗", "没有", "建议休息，多饮水", "要吃药吗"],
    ["我头疼", "疼了多久了?", "两天了", "有发热吗", "没有", "建议休息，多饮水", "要吃药吗", "布洛芬", "一天几次？"],
]
CASES: list[dict] = []


class Recorder:
    """Around a tokenizer: keeps the texts that are tokenized and what they became."""

    def __init__(self, tokenizer):
        self.inner, self.texts, self.ids = tokenizer, [], []

    def __call__(self, text, *args, **options):
        encoded = self.inner(text, *args, **options)
        ids = encoded["input_ids"]
        self.texts.append(text[0] if isinstance(text, list) else text)
        self.ids.append([int(i) for i in (ids[0] if isinstance(ids, torch.Tensor) else ids)])
        return encoded

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value) if name in ("inner", "texts", "ids") else setattr(self.inner, name, value)


def record(name: str, variant: str, turns: list[str], **seen) -> None:
    CASES.append({"baseline": name, "variant": variant, "turns": turns, **seen})


@contextlib.contextmanager
def inside(folder: Path, *arguments: str):
    """In that folder, with its modules and these arguments."""
    before, argv = os.getcwd(), sys.argv
    known = set(sys.modules)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.argv = ["script", *arguments]
    try:
        yield
    finally:
        os.chdir(before)
        sys.path.remove(str(folder))
        sys.argv = argv
        for module in set(sys.modules) - known:
            if module.split(".")[0] == "src" or str(folder) in str(getattr(sys.modules[module], "__file__", "")):
                del sys.modules[module]


def huatuogpt(repo: Path, work: Path) -> None:
    with inside(repo):
        demo = importlib.import_module("huatuo_cli_demo_stream")
        delta_script = importlib.import_module("apply_delta")
    base = published.llama(work / "ziya", num_shards=2)
    delta_script.apply_delta(str(base), str(work / "huatuogpt"), str(published.delta(work / "delta", vocab=published.VOCAB)))
    _saved(work / "huatuogpt")
    model = transformers.AutoModelForCausalLM.from_pretrained(work / "huatuogpt", torch_dtype=torch.float32).eval()
    for turns in [[question] for question in QUESTIONS] + DIALOGUES:
        tokenizer = Recorder(transformers.AutoTokenizer.from_pretrained(work / "huatuogpt", padding_side="right", use_fast=True))
        seen: list[torch.Tensor] = []

        def see(_, args, options, seen=seen):
            seen.append(options.get("input_ids", *args))

        hook = model.register_forward_pre_hook(see, with_kwargs=True)
        history = list(zip(turns[:-1:2], turns[1::2], strict=True))
        answer = ""
        # A temperature of 0 takes its branch for the likeliest token; the default of the command line is 0.5.
        for answer in demo.chat_stream(model, tokenizer, turns[-1], history, max_new_tokens=512, temperature=0.0):  # noqa: B007
            pass
        hook.remove()
        ids = seen[0][0].tolist()
        record("huatuogpt", "official", turns, text=tokenizer.texts[0], ids=ids, answer=answer.strip(), greedy=True)


def _saved(folder: Path) -> Path:
    """With the fast tokenizer's file, too. Where 4.30 makes the fast one from the slow one as it loads, and only there, it overlooks
    special tokens that have no space before them; saved and loaded once, or slow, it reads them."""
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


def bentsao(repo: Path, work: Path) -> None:
    base, adapter = _saved(published.llama(work / "llama")), published.lora(work / "lora")
    questions = [*QUESTIONS[:4], "失眠怎么办？", "牙疼", "孩子发热", "头晕"]  # the long one would show nothing more: it cuts none
    (work / "questions.json").write_text("\n".join(json.dumps({"instruction": question, "output": ""}) for question in questions))
    tokenizers, outputs = [], []
    with inside(repo):
        infer = importlib.import_module("infer")
        infer.device = "cpu"
        infer.AutoTokenizer = types.SimpleNamespace(from_pretrained=lambda path: tokenizers.append(
            Recorder(transformers.AutoTokenizer.from_pretrained(path))) or tokenizers[-1])  # fmt: skip
        infer.AutoModelForCausalLM = types.SimpleNamespace(
            from_pretrained=lambda path, **_: _float(transformers.AutoModelForCausalLM.from_pretrained(path, torch_dtype=torch.float32))
        )
        original = infer.PeftModel.from_pretrained

        def loaded(model, path, **_):
            model = original(model, path)
            model.half = lambda: model
            generate = model.generate
            model.generate = lambda **options: outputs.append(generate(**options)) or outputs[-1]
            return model

        infer.PeftModel = types.SimpleNamespace(from_pretrained=loaded)
        printed = _Printed()
        infer.print = printed
        infer.main(base_model=str(base), lora_weights=str(adapter), instruct_dir=str(work / "questions.json"))
    answers = printed.after("###model output###")
    for question, text, ids, output, answer in zip(questions, tokenizers[0].texts, tokenizers[0].ids, outputs, answers, strict=True):
        new_ids = output.sequences[0].tolist()[len(ids) :]
        record("bentsao", "official", [question], text=text, ids=ids, new_ids=new_ids, answer=answer)


class _Printed:
    def __init__(self):
        self.lines = []

    def __call__(self, *values, **_):
        self.lines.append(values[0] if len(values) == 1 else values)

    def after(self, mark):
        return [self.lines[n + 1] for n, line in enumerate(self.lines) if isinstance(line, str) and line == mark]


def _float(model):
    model.half = lambda: model
    return model


def paper(repo: Path, work: Path) -> None:
    _datasets()
    rows = [{"question_id": n, "question": question} for n, question in enumerate(QUESTIONS)]
    (work / "webmedqa.json").write_text(json.dumps(rows))
    llama = published.llama(work / "paper-llama")
    baichuan = _baichuan(work / "paper-baichuan")
    for branch, name, variant, folder in (("llama", "bentsao", "paper", llama), ("baichuan", "medchatzh", "official", baichuan)):
        for number, question in enumerate(QUESTIONS):  # one by one: the script stops at a question that has lost its marker
            (work / "one.json").write_text(json.dumps([rows[number]]))
            tokenizer_calls, outputs = [], []
            failed = False
            arguments = ("--model_name_or_path", str(folder), "--model_name", branch, "--precision", "fp32")
            with inside(repo, *arguments, "--eval_dataset", str(work / "one.json")), _watched(branch, tokenizer_calls, outputs):
                sys.modules["pandas"].DataFrame.kept = None
                try:
                    with contextlib.redirect_stdout(io.StringIO()):
                        runpy.run_path("src/eval/inference.py", run_name="__main__")
                except IndexError:
                    failed = True
            text, ids = tokenizer_calls[0]
            answer = None if failed else sys.modules["pandas"].DataFrame.kept["predict"][0]
            record(name, variant, [question], text=text, ids=ids, new_ids=outputs[0][len(ids) :], answer=answer)
    _dialogues(repo, baichuan)
    _chatglm_paper(repo, work)


@contextlib.contextmanager
def _watched(branch, calls, outputs):
    """Keeps what the script's tokenizer and model are given and give."""
    if branch == "llama":
        tokenizer_class, model_class = transformers.LlamaTokenizer, transformers.LlamaForCausalLM
    else:
        tokenizer_class = importlib.import_module("src.models.baichuan.tokenization_baichuan").BaiChuanTokenizer
        model_class = importlib.import_module("src.models.baichuan.modeling_baichuan").BaiChuanForCausalLM
    call, generate = tokenizer_class.__call__, model_class.generate

    def calling(self, text, *args, **options):
        encoded = call(self, text, *args, **options)
        calls.append((text, [int(i) for i in encoded["input_ids"]]))
        return encoded

    def generating(self, *args, **options):
        output = generate(self, *args, **options)
        outputs.append(output[0][0].tolist())
        return output

    tokenizer_class.__call__, model_class.generate = calling, generating
    try:
        yield
    finally:
        tokenizer_class.__call__, model_class.generate = call, generate


def _baichuan(folder: Path) -> Path:
    """A Baichuan-7B: LLaMA but for q, k and v in one matrix, and no BOS."""
    published.llama(folder, add_bos=False, model_type="baichuan", architectures=["BaiChuanForCausalLM"])
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"pad_token": "<unk>"}))  # run_sf.py: pad is 0
    tensors = published.llama_weights(1)
    for layer in range(published.LAYERS):
        name = f"model.layers.{layer}.self_attn."
        tensors[f"{name}W_pack.weight"] = torch.cat([tensors.pop(f"{name}{part}_proj.weight") for part in "qkv"])
    published.write_bin(folder, tensors)
    return folder


def _dialogues(repo: Path, folder: Path) -> None:
    """dialog.py, whose model is given the answers of DIALOGUES, and answers the last question itself."""
    for turns in DIALOGUES:
        questions, given, seen = iter(turns[::2]), iter(turns[1::2]), []
        with inside(repo, "--model_name_or_path", str(folder), "--precision", "fp32"):
            modeling = importlib.import_module("src.models.baichuan.modeling_baichuan")
            stream_chat, stream_generate = modeling.BaiChuanForCausalLM.stream_chat, modeling.BaiChuanForCausalLM.stream_generate

            def streaming(self, tokenizer, query, history, gen_kwargs, given=given, seen=seen, stream_chat=stream_chat, modeling=modeling,
                          stream_generate=stream_generate):  # fmt: skip
                tokenizer = Recorder(tokenizer)
                answer = next(given, None)
                new_ids = []

                def generating(model, input_ids, **options):
                    for output in stream_generate(model, input_ids, **options):
                        new_ids[:] = output[0].tolist()[input_ids.shape[1] :]
                        yield output
                        if answer is not None:
                            return

                modeling.BaiChuanForCausalLM.stream_generate = generating
                for piece in stream_chat(self, tokenizer=tokenizer, query=query, history=history, gen_kwargs=gen_kwargs):
                    yield piece if answer is None else answer
                seen.append((tokenizer.texts[-1], tokenizer.ids[-1], list(new_ids), piece))

            modeling.BaiChuanForCausalLM.stream_chat = streaming

            def asked(_, questions=questions):
                question = next(questions, None)
                if question is None:
                    raise KeyboardInterrupt
                return question

            modeling.BaiChuanForCausalLM.to = lambda self, _: self  # it asks for a GPU
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(KeyboardInterrupt):
                runpy.run_path("src/dialog.py", init_globals={"input": asked}, run_name="__main__")
        text, ids, shown, answer = seen[-1]
        record("medchatzh", "official", turns, text=text, ids=ids, shown_ids=shown, answer=answer)


def _chatglm_paper(repo: Path, work: Path) -> None:
    """The branch chatglm, with a model and a tokenizer that only write down: the architecture does not matter to how it is asked."""
    asked = {}

    class Tokenizer:
        @classmethod
        def from_pretrained(cls, _):
            return cls()

        def __call__(self, texts, **_):
            asked["text"] = texts[0]
            return transformers.BatchEncoding({"input_ids": torch.tensor([[5, 6, 7]])})

        def decode(self, ids, **_):
            assert ids.tolist() == [5, 6, 7, 8, 9]
            return asked["text"] + " 多休息。[[训练时间]] "

    class Model:
        @classmethod
        def from_pretrained(cls, *_, **__):
            return cls()

        def half(self):
            return self

        float = eval = half

        def to(self, _):
            return self

        def generate(self, input_ids, **options):
            asked["options"] = options
            return [torch.tensor([[5, 6, 7, 8, 9]])]

    for question in QUESTIONS:
        (work / "one.json").write_text(json.dumps([{"question_id": 0, "question": question}]))
        arguments = ("--model_name_or_path", "none", "--model_name", "chatglm", "--precision", "fp32")
        with inside(repo, *arguments, "--eval_dataset", str(work / "one.json")):
            for module, names in (
                ("tokenization_chatglm", {"ChatGLMTokenizer": Tokenizer}),
                ("modeling_chatglm", {"ChatGLMForConditionalGeneration": Model}),
                ("configuration_chatglm", {"ChatGLMConfig": Tokenizer}),
            ):
                sys.modules[f"src.models.chatglm.{module}"] = types.SimpleNamespace(**names)
            with contextlib.redirect_stdout(io.StringIO()):
                runpy.run_path("src/eval/inference.py", run_name="__main__")
            for module in ("tokenization_chatglm", "modeling_chatglm", "configuration_chatglm"):
                del sys.modules[f"src.models.chatglm.{module}"]
        answer = sys.modules["pandas"].DataFrame.kept["predict"][0]
        decoded = asked["text"] + " 多休息。[[训练时间]] "
        record("chatglm-med", "paper", [question], text=asked["text"], decoded=decoded, answer=answer, options=_plain(asked["options"]))


def chatglm(repo: Path) -> None:
    asked = {}

    class Tokenizer:
        def __call__(self, texts, **_):
            asked["text"] = texts[0]
            return transformers.BatchEncoding({"input_ids": torch.tensor([[5, 6, 7]])})

        def decode(self, ids):
            assert ids == [8, 9]
            return " 多休息,少熬夜。[[训练时间]] "

    class Model:
        device = "cpu"

        def generate(self, **options):
            asked["options"] = options
            return torch.tensor([[5, 6, 7, 8, 9]])

    with inside(repo):
        modeling = importlib.import_module("modeling_chatglm")
        for turns in [[question] for question in QUESTIONS] + DIALOGUES:
            chat = modeling.ChatGLMForConditionalGeneration.chat
            wrapped = ["问题：" + turn.strip() + "\n答案：" if n % 2 == 0 else turn for n, turn in enumerate(turns)]  # as infer.py does
            history = list(zip(wrapped[:-1:2], wrapped[1::2], strict=True))
            answer, _ = chat(Model(), Tokenizer(), wrapped[-1], max_length=256, history=history)
            decoded = " 多休息,少熬夜。[[训练时间]] "
            record("chatglm-med", "official", turns, text=asked["text"], decoded=decoded, answer=answer, options=_plain(asked["options"]))


def _plain(options: dict) -> dict:
    return {key: value for key, value in options.items() if isinstance(value, int | float | bool)}


def _datasets() -> None:
    """What the script uses of datasets and pandas, which need not be installed."""

    class Data(list):
        column_names = ("question_id", "question")

        def __getitem__(self, key):
            return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)

        def map(self, function, remove_columns):
            return Data(function(row) for row in self)

    class DataFrame:
        kept = None

        def __init__(self, table):
            DataFrame.kept = table

        def to_csv(self, *_, **__):
            pass

    def load_dataset(_, data_files):
        return {"train": Data(json.loads(Path(data_files).read_text()))}

    sys.modules["datasets"] = types.SimpleNamespace(load_dataset=load_dataset)
    sys.modules["pandas"] = types.SimpleNamespace(DataFrame=DataFrame)


def main(repos: Path) -> None:
    for name in ("fire", "gradio", "icetk", "icetk.text_tokenizer", "icetk.utils", "icetk.sentencepiece_model_pb2"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["icetk.text_tokenizer"].TextTokenizer = sys.modules["icetk.utils"].auto_create = object
    torch.compile = lambda model: model
    torch.cuda.is_available = lambda: False
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bentsao(repos / "Huatuo-Llama-Med-Chinese", work)
        huatuogpt(repos / "HuatuoGPT", work)
        chatglm(repos / "Med-ChatGLM")
        paper(repos / "MedChatZH", work)
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in CASES)
    (published.TOKENIZER.parent / "baselines.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
