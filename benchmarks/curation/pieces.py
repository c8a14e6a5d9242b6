"""Pieces of real questions and answers, by department, that the corpus is put together from. Nothing of them is kept on disk.

A sentence is cut at the comma nearest its middle: the head of one and the tail of another of the same department make a sentence that reads
well enough and stands nowhere else, so that ten million records hold no more accidental near duplicates or boilerplate than real ones do.
"""

from __future__ import annotations

import csv
import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_MIN_PIECES = 3000
"""Departments with fewer heads or tails join 内科: one record's dozen draws from a small pool would meet in another's."""
_DEPARTMENTS = {  # for sources that name none: the first whose word the question or answer holds
    "肿瘤科": "癌|瘤|化疗|放疗|转移",
    "儿科": "宝宝|孩子|小儿|婴儿|患儿|女童|男童",
    "妇产科": "月经|怀孕|孕妇|阴道|子宫|卵巢|妊娠|乳腺",
    "皮肤科": "皮肤|湿疹|皮疹|痤疮|瘙痒|癣",
    "心血管科": "高血压|心脏|冠心病|心肌|心律|动脉",
    "消化科": "胃|肠|腹泻|便秘|消化|食管",
    "肝病科": "肝|胆|黄疸",
    "神经科": "头痛|头晕|脑|癫痫|神经|失眠",
    "骨科": "骨|关节|颈椎|腰椎",
    "五官科": "眼|耳|鼻|咽|喉|牙|口腔",
}
_FALLBACK = "内科"

_FOLDED = str.maketrans({",": "，", ";": "；", "?": "？", "!": "！", ":": "：", "(": "（", ")": "）", "\u3000": " "})
_SENTENCE = re.compile(r"[。！？；\n]+")
# What would be a fault that no label tells of: contact data, list numbers, advertising, refusals, chat, courtesy, damaged text.
_NOT_CLEAN = re.compile(
    r"[0-9][0-9 .\-—]{4,}|[@<>&\"'\\|*#~～…^_=]|[A-Za-z]{12,}|https?|www|微信|威信|薇信|[QqVv][QqXx]|扣扣|企鹅|公众号"
    r"|电话|热线|致电|拨打|身份证|护照"
    r"|[①-⒛]|(?:^|[，、：（ ])[（]?[0-9一二三四五六七八九十]{1,3}[）、.．：]|[0-9][、）：]|：[0-9]|\.(?![0-9])|[＂-＇＊＋－-９；-＞＠-～]"
    r"|我院|本院|我们医院|我中心|我叫|老师|先生|女士|教授|免费|优惠|疗程|专利|独家|祖传|根治|治愈率|有效率|官网|客服|包治|包好|100%|口碑|购买|下单|专家"
    r"|人工智能|语言模型|机器人|抱歉|对不起|不好意思|遗憾|无法|不能(?:为|给|提供|回答)"
    r"|哈哈|嘿|呵呵|嗯|哎|啊|呀|啦|嘛|咯|喽|哟|噢|哇|呗|呐|哦|咋|额|亲"
    r"|谢谢|感谢|您好|你好|祝|希望|期望|对你有|采纳|咨询|提问|满意|[□\ue000-\uf8ff\ufffd\x00-\x1f\x7f-\xa0\u200b-\u200f]"
)
_HANZI = re.compile(r"[\u4e00-\u9fff]")
_ASKS = re.compile(r"(?:[吗呢]|怎么[办样]?|什么|如何|哪些|多少|是否|能否|多久|几|为何|怎样|原因|方法|治疗|吗)")


class Pool(NamedTuple):
    """What a department says. In questions a head tells of a complaint and an ask asks; answers' heads end with a comma, tails with 。"""

    name: str
    question_heads: list[str]
    asks: list[str]
    answer_heads: list[str]
    answer_tails: list[str]


class Pools(NamedTuple):
    pools: list[Pool]
    questions: list[tuple[str, str]]
    """(department, whole question), of which no piece stands in a pool: the benchmark is made from them."""
    answers: list[str]
    """Whole answers, of which no sentence stands in a pool."""


def read_pools(root: Path) -> Pools:
    """The pools of the medical sources below `root` (the layout of docs/data.md). Same files, same pools."""
    exchanges = sorted(set(_exchanges(root / "medical")))
    taken = exchanges[::16]
    asked = {question: department for department, question, _ in taken if 30 <= len(question) <= 120 and _is_clean(question)}
    answers = sorted({answer for _, _, answer in taken if 40 <= len(answer) <= 300 and answer[-1] in "。！？" and _is_clean(answer)})
    held_out = {part for text in (*asked, *answers) for part in _SENTENCE.split(text)}
    found: dict[str, list[dict[str, None]]] = defaultdict(lambda: [{}, {}, {}, {}])
    for department, question, answer in exchanges:
        parts = found[department]
        for sentence in _sentences(question, held_out):
            head, tail = _halves(sentence)
            parts[0].update(dict.fromkeys([head] if head and not _ASKS.search(head) else []))
            parts[1].update(dict.fromkeys([tail] if _ASKS.search(tail) else []))
        for sentence in _sentences(answer, held_out):
            head, tail = _halves(sentence)
            if head:
                parts[2][head + "，"] = None
                parts[3][tail + "。"] = None
    for department in [name for name, parts in found.items() if min(map(len, parts[2:])) < _MIN_PIECES]:
        for part, more in zip(found[_FALLBACK], found.pop(department), strict=True) if department != _FALLBACK else ():
            part.update(more)
    every = [list(dict.fromkeys(piece for parts in found.values() for piece in parts[kind])) for kind in (0, 1)]
    pools = [
        Pool(name, *(list(part) if len(part) > 500 else every[kind] for kind, part in enumerate(parts[:2])), *map(list, parts[2:]))
        for name, parts in sorted(found.items())
    ]
    return Pools(pools, [(department, question) for question, department in sorted(asked.items())], answers)


def _exchanges(root: Path) -> Iterator[tuple[str, str, str]]:
    """(department, question, answer) of the sources, unclean ones too."""
    with (root / "toyhom/样例_内科5000-6000.csv").open(encoding="gb18030", errors="replace", newline="") as file:
        for row in csv.DictReader(file):
            yield row["department"], _folded(row["ask"] or row["title"]), _folded(row["answer"])
    for name, question, answer in (
        ("bentsao/llama_data.json", "instruction", "output"),
        ("med_chatglm/train.txt", "context", "target"),
    ):
        for line in (root / name).read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            asked = _folded(record[question]).removeprefix("问题：").removesuffix("\n回答：").strip()
            yield _department(asked + record[answer]), asked, _folded(record[answer])
    for line in (root / "medicalgpt/medical_sft_1K_format.jsonl").read_text(encoding="utf-8").splitlines():
        asked, said, *_ = (_folded(turn["value"]) for turn in json.loads(line)["conversations"])
        yield _department(asked + said), asked, said
    for line in (root / "cmedqa2/cMedQA_questions_half.txt").read_text(encoding="utf-8").splitlines():
        if len(fields := line.split("\t")) == 3:
            yield _department(fields[1] + fields[2]), _folded(fields[1]), _folded(fields[2].strip('"'))
    for leaflet in json.loads((root / "drug/drug.json").read_text(encoding="utf-8")):
        yield "药剂科", "", _folded(re.sub(r"^[^:：\n]{1,12}[:：]", "", leaflet, flags=re.MULTILINE))
    for question, answer in _talks(root / "cmdd.zip", "speaker", "sentence", "医生"):
        yield "儿科", question, answer
    for question, answer in _talks(root / "smile.zip", "role", "content", "counselor"):
        yield "心理科", question, answer


def _talks(path: Path, speaker: str, content: str, doctor: str) -> Iterator[tuple[str, str]]:
    """One (all that the patient says, all that the doctor says) a dialogue."""
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".json"):
                talk = json.loads(archive.read(name))
                turns = talk["dialogue-content"] if isinstance(talk, dict) else talk
                yield tuple(  # type: ignore[misc]
                    "\n".join(_folded(turn[content]) for turn in turns if (turn[speaker] == doctor) is is_doctor)
                    for is_doctor in (False, True)
                )


def _department(text: str) -> str:
    return next((name for name, words in _DEPARTMENTS.items() if re.search(words, text)), _FALLBACK)


def _folded(text: str) -> str:
    return text.strip().translate(_FOLDED)


def _is_clean(text: str) -> bool:
    return not _NOT_CLEAN.search(text) and len(_HANZI.findall(text)) >= 0.6 * len(text)


def _sentences(text: str, held_out: set[str]) -> Iterator[str]:
    for sentence in _SENTENCE.split(text):
        sentence = sentence.strip(" ，、：")
        if 8 <= len(sentence) <= 90 and sentence not in held_out and _is_clean(sentence):
            yield sentence


def _halves(sentence: str) -> tuple[str, str]:
    """A sentence before and after the comma nearest its middle; ('', sentence) where it has none, or leaves a half too short or long."""
    commas = [place for place, character in enumerate(sentence) if character == "，"]
    cut = min(commas, key=lambda place: abs(2 * place - len(sentence)), default=0)
    head, tail = sentence[:cut].strip(), sentence[cut + 1 :].strip()
    is_whole = all(5 <= len(half) <= 45 and half.count("（") == half.count("）") for half in (head, tail))
    return (head, tail) if is_whole else ("", sentence)
