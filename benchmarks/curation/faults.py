"""Faults to plant in a record: each function takes a sound (question, answer) and returns the faulty one with what its label tells."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from similarity import jaccard

MIN_SENTENCES = 5
"""What a sound answer must have for every fault to find room."""
Rng = np.random.Generator
Planted = tuple[str, str, dict[str, Any]]

PERSONAL_KINDS = ("mobile", "landline", "hotline", "email", "id_card", "bank_card", "qq", "wechat")
_CARRIERS = {  # written straight after hanzi and before them, as people do
    "mobile": "可以打我手机{}联系我", "landline": "办公室电话{}随时可打", "hotline": "预约热线{}全天有人接", "email": "报告请发到{}给我",
    "id_card": "我的身份证号是{}请查一下", "bank_card": "费用打到卡号{}就行", "qq": "加我QQ{}细说", "wechat": "加微信号{}发图片",
}  # fmt: skip
_LIST_STYLES: tuple[Callable[[int], str], ...] = (
    "{}、".format, "{}）".format, "{})".format, "（{}）".format, "({})".format, "{}，".format, "{}．".format, "{}.".format,
    lambda number: chr(0xFF10 + number) + "、", lambda number: f"（{chr(0xFF10 + number)}）",
    lambda number: chr(0x245F + number), lambda number: chr(0x2473 + number), lambda number: chr(0x2487 + number),
)  # fmt: skip
_REFUSALS = (
    "作为一个人工智能语言模型，我无法提供具体的诊断和治疗。", "抱歉，我无法为您提供医疗建议，请咨询专业医生。",
    "很抱歉，我不能提供具体的用药方案。", "对不起，作为AI助手，我没有能力对疾病进行诊断。",
    "我是一个人工智能助手，不能替代医生，因此无法回答您的问题。",
)  # fmt: skip
_ADVERTISING = (
    "我院采用德国进口先进技术，专家团队一对一诊疗，无效退款。", "我院引进国际领先设备，三个疗程彻底根治，点击咨询在线客服。",
    "祖传秘方包治此病，无任何副作用，限时优惠，货到付款。", "我院专家独创疗法，永不复发，欢迎来院，详情点击下方。",
    "本品纯中药制成，买二送一，包邮，立即下单有活动价。",
)  # fmt: skip
_DANGLING = ("，", "，建议", "，并且", "，因为", "，包括", "，以及", "、", "：")
_SHORT = ("多喝水", "注意休息", "不要紧", "去医院", "没事的", "吃药", "少吃辣", "再观察", "不严重", "可以的")
_LOCAL, _DOMAINS = "abcdefghijkmnpqrstuvwxyz", ("qq.com", "163.com", "126.com", "sina.com.cn", "gmail.com")
_COMMON = "的了是在有不人我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多天而能好都然没日于起还"
_EXACT_CHANGES = str.maketrans("，。0123456789", ",．０１２３４５６７８９")


class Text(NamedTuple):
    question: str
    answer: str


def short_answer(text: Text, rng: Rng) -> Planted:
    """Too short, to a question for advice: a short fact can be all that another question asks for."""
    return f"{text.question}请问我该怎么办？", _SHORT[rng.integers(len(_SHORT))] + "。", {}


def personal_data(text: Text, rng: Rng) -> Planted:
    kind = PERSONAL_KINDS[rng.integers(len(PERSONAL_KINDS))]
    said = _CARRIERS[kind].format(_personal(kind, rng))
    if rng.random() < 0.5:
        return f"{text.question}{said}。", text.answer, {"kind": kind}
    head, stop, tail = text.answer.partition("。")
    return text.question, f"{head}{stop}{said}。{tail}", {"kind": kind}


def list_numbers(text: Text, rng: Rng) -> Planted:
    """A list in one of the styles of real answers, by lines or in a row; the label holds the digest of the answer as it should become."""
    sentences = text.answer.split("。")[:-1]
    sentences = [f"建议{sentence}。" if sentence[0].isdigit() else f"{sentence}。" for sentence in sentences]
    place = int(rng.integers(len(_LIST_STYLES)))
    joint = "\n" if rng.random() < 0.5 else ""
    num_items = min(len(sentences) - 1, int(rng.integers(3, 8)))

    def written(style: Callable[[int], str]) -> str:
        items = [f"{style(number)}{sentence}" for number, sentence in enumerate(sentences[1 : num_items + 1], 1)]
        return joint.join([sentences[0], *items])

    expected = blake2b(written("{}.".format).encode(), digest_size=8).hexdigest()
    return text.question, written(_LIST_STYLES[place]), {"kind": _LIST_STYLES[place](1), "expected": expected}


def refusal(text: Text, rng: Rng) -> Planted:
    return text.question, _REFUSALS[rng.integers(len(_REFUSALS))] + ("如有不适，请及时就医。" if rng.random() < 0.5 else ""), {}


def cut_off(text: Text, rng: Rng) -> Planted:
    sentences = text.answer.split("。")[:-1]
    kept = "。".join(sentences[: max(2, len(sentences) // 2)])
    end = _DANGLING[rng.integers(len(_DANGLING))]
    return text.question, kept + end, {"kind": end}


def loop(text: Text, rng: Rng) -> Planted:
    """One sentence until it is more than half of the answer (at least four times more)."""
    sentences = [f"{sentence}。" for sentence in text.answer.split("。")[:-1]]
    start = "".join(sentences[: int(rng.integers(0, 4))])
    repeated = sentences[-1]
    return text.question, start + repeated * (5 + 2 * (len(start) // len(repeated))), {}


def advertising(text: Text, rng: Rng) -> Planted:
    head, stop, tail = text.answer.partition("。")
    return text.question, f"{head}{stop}{_ADVERTISING[rng.integers(len(_ADVERTISING))]}{tail}", {}


def exact_duplicate(text: Text, rng: Rng) -> Planted:
    """Equal but for width, punctuation and white space."""
    change = int(rng.integers(4))
    if change == 0:
        return text.question, text.answer, {}
    if change == 1:
        return text.question.translate(_EXACT_CHANGES), text.answer.translate(_EXACT_CHANGES), {}
    if change == 2:
        return text.question.rstrip("？"), text.answer.replace("。", "！"), {}
    return text.question, text.answer.replace("。", "。\n"), {}


def near_duplicate(text: Text, rng: Rng, other: Text) -> Planted:
    """Some sentences from another answer, left out, or misspelt; how many is drawn, so that J spreads over .5 to 1. The label holds J."""
    sentences = [f"{sentence}。" for sentence in text.answer.split("。")[:-1]]
    foreign = [f"{sentence}。" for sentence in other.answer.split("。")[:-1]]
    how, share = int(rng.integers(3)), float(rng.random())
    if how == 0:
        for place in rng.permutation(len(sentences))[: max(1, round(0.3 * share * len(sentences)))]:
            sentences[place] = foreign[place % len(foreign)]
    elif how == 1:
        sentences = sentences[max(1, round(0.45 * share * len(sentences))) :]
    answer = "".join(sentences)
    if how == 2:
        characters = list(answer)
        for place in rng.integers(len(answer), size=max(1, round(0.06 * share * len(answer)))).tolist():
            characters[place] = _COMMON[(place * 31 + how) % len(_COMMON)]
        answer = "".join(characters)
    return text.question, answer, {"jaccard": round(jaccard(text.question + text.answer, text.question + answer), 4)}


def contaminated(text: Text, rng: Rng, question: str, reference: str) -> Planted:
    """The record asks a benchmark's question (as it is, inside a longer one, misspelt) or gives its answer."""
    kind = ("exact", "contained", "near", "answer")[rng.integers(4)]
    if kind == "exact":
        changed = question.translate(_EXACT_CHANGES) if rng.random() < 0.5 else question.rstrip("？。") + "！"
        return changed, text.answer, {"kind": kind}
    if kind == "contained":
        return f"{text.question[:20]}。{question}请医生帮忙看看。", text.answer, {"kind": kind}
    if kind == "answer":
        return text.question, reference, {"kind": kind}
    edits = int(rng.integers(1, 4))
    ends = rng.random() < 0.5
    if ends:
        changed = "".join(_COMMON[place] for place in rng.integers(len(_COMMON), size=edits)) + question
    else:
        place = int(rng.integers(len(question) - edits))
        changed = question[:place] + question[place + edits :]
    return changed, text.answer, {"kind": kind, "jaccard": round(jaccard(question, changed), 4)}


def _personal(kind: str, rng: Rng) -> str:
    """A valid value of a kind: check digits, dates and area codes hold."""
    digits = "".join(map(str, rng.integers(10, size=18)))
    if kind == "mobile":
        return f"1{3 + int(digits[0]) % 7}{digits[1:10]}"
    if kind == "landline":
        return f"0{('10', '21', '755', '571')[int(digits[0]) % 4]}-8{digits[:7]}"
    if kind == "hotline":
        return f"400-{digits[:3]}-{digits[3:7]}"
    if kind == "email":
        return "".join(_LOCAL[place] for place in rng.integers(len(_LOCAL), size=6)) + digits[:3] + "@" + _DOMAINS[int(digits[4]) % 5]
    if kind == "id_card":
        body = f"{('110105', '310104', '440106', '330102')[int(digits[0]) % 4]}{1950 + int(digits[1:3]) % 60}"
        body += f"{1 + int(digits[3]):02d}{1 + int(digits[4:6]) % 28:02d}{digits[6:9]}"
        return body + "10X98765432"[sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(body)) % 11]
    if kind == "bank_card":
        body = "6222" + digits[:14]
        doubled = sum(sum(divmod(int(digit) * (2 - place % 2), 10)) for place, digit in enumerate(reversed(body)))
        return body + str(-doubled % 10)
    if kind == "qq":
        return str(1 + int(digits[0]) % 9) + digits[1:9]
    return "".join(_LOCAL[place] for place in rng.integers(len(_LOCAL), size=4)) + "_" + digits[:5]
