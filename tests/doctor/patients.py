"""A sound recipe with data of its own, and what examines it after something was changed."""

import json
import shutil
from pathlib import Path

import msgspec

from medchatzh.doctor import examine
from medchatzh.doctor.machine import Gpu
from medchatzh.doctor.subject import Subject

COMPLAINTS = ("头痛", "咳嗽", "胃痛", "失眠", "腹泻", "心悸", "皮疹", "发热", "腰痛", "耳鸣")
COURSES = ("三天", "一周", "半个月", "两个月", "半年", "反复发作", "夜间加重", "饭后加重", "劳累后加重", "受凉后加重")
ADVICE = (
    "注意休息。",
    "清淡饮食，多喝温水，避免劳累。",
    "建议到医院做相关检查，明确病因后再用药。",
    "可以先观察几天；若加重，请及时就医。",
)
BOOK = "书名：验方\n<篇名>头痛\n属性：" + "川芎、白芷、羌活，水煎服，治偏正头痛，风寒者宜之。" * 40

RECIPE = """
[data]
root = "{root}"

[[ingest.sources]]
name = "medical"
path = "medical.jsonl"

[[ingest.sources]]
name = "general"
path = "general.jsonl"
pool = "general"

[[ingest.sources]]
name = "books"
path = "*.txt"
format = "book"

[[ingest.sources]]
name = "rankings"
path = "rankings.jsonl"

[[ingest.sources]]
name = "benchmark"
path = "benchmark.tsv"
format = "webmedqa"

[tokenizer]
vocab_size = 1000

[pretrain]
row_tokens = 64
rows = 1

[reward]
row_tokens = 256
rankings = 1

[sft]
row_tokens = 128
rows = 1

[generate.decoding]
max_new_tokens = 128
"""


def exchanges(kind: str = "患者") -> list[tuple[str, str]]:
    """100 questions with answers."""
    pairs = []
    for first, complaint in enumerate(COMPLAINTS):
        for second, course in enumerate(COURSES):
            answer = f"{complaint}{course}，" + "".join(ADVICE[: 1 + (first + second) % len(ADVICE)])
            pairs.append((f"{kind}{complaint}{course}，该怎么办？", answer))
    return pairs


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def alpaca(pairs: list[tuple[str, str]]) -> list[dict]:
    return [{"instruction": question, "input": "", "output": answer} for question, answer in pairs]


class Patient:
    """A sound recipe and its files under `folder`; tests change one thing, and ask what is found."""

    def __init__(self, folder: Path, machine) -> None:
        self.folder, self.machine = folder, machine
        self.data, self.runs, self.recipe = folder / "data", folder / "runs", folder / "recipe.toml"
        self.data.mkdir()
        write_lines(self.data / "medical.jsonl", alpaca(exchanges()))
        write_lines(self.data / "general.jsonl", alpaca(exchanges("请写一篇短文，题目是")))
        (self.data / "book.txt").write_text(BOOK, "utf-8")
        ranked = [
            {"prompt": f"老人{question}", "answers": [{"text": answer, "rank": 1}, {"text": "不知道。", "rank": 2}]}
            for question, answer in exchanges()
        ]
        write_lines(self.data / "rankings.jsonl", ranked)
        rows = [f"{number}\t1\t内科\t小儿{question}\t{answer}" for number, (question, answer) in enumerate(exchanges()[:30])]
        (self.data / "benchmark.tsv").write_text("\n".join(rows) + "\n", "utf-8")
        self.recipe.write_text(RECIPE.format(root=self.data), "utf-8")
        self.settings: list[str] = []

    def change(self, *assignments: str) -> None:
        self.settings += assignments

    def have(self, **changes) -> None:
        """Another machine."""
        self.machine = msgspec.structs.replace(self.machine, **changes)

    def without(self, package: str) -> None:
        self.have(versions={name: version for name, version in self.machine.versions.items() if name != package})

    def base(self, checkpoint: Path, **config) -> Path:
        """A copy of a checkpoint as base and tokenizer, its config.json changed."""
        folder = self.folder / "base"
        shutil.copytree(checkpoint, folder)
        edit(folder / "config.json", **config)
        self.change(f"pretrain.base={folder}", f"tokenizer.path={folder}", "sft.row_tokens=256")  # bytes, where it has no piece
        return folder

    def mixed(self, train: list[tuple[str, str]], validation: list[tuple[str, str]]) -> Path:
        """A finished mix stage."""
        from medchatzh.records import Dialogue, Turn, write
        from medchatzh.run import Manifest

        folder = self.runs / "recipe" / "mix-0123456789ab"
        folder.mkdir(parents=True)
        for name, pairs in (("train", train), ("validation", validation)):
            write(
                folder / f"{name}.jsonl",
                [
                    Dialogue(id=f"a:{number}", turns=(Turn("user", question), Turn("assistant", answer)))
                    for number, (question, answer) in enumerate(pairs)
                ],
            )
        config = msgspec.to_builtins(Subject(self.machine, self.recipe, self.settings).recipe.mix)
        empty = {name: {} for name in ("inputs", "files", "versions", "dropped", "facts", "outputs")}
        manifest = Manifest(stage="mix", fingerprint="", config=config, seed=0, num_in=0, num_out=0, seconds=0.0, **empty)
        (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
        return folder

    def findings(self) -> list:
        return examine(Subject(self.machine, self.recipe, self.settings, self.runs))[0]

    def found(self, *severities: str) -> set[str]:
        """The checks that speak, of some severities or (none given) of warnings and errors."""
        return {finding.check for finding in self.findings() if finding.severity in (severities or ("error", "warning"))}


def edit(path: Path, **changes) -> None:
    """Change keys of a JSON file; None takes one away."""
    table = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in table.items() if value is not None}), "utf-8")


GPU = Gpu("NVIDIA A800-SXM4-80GB", 80_000_000_000, True)
