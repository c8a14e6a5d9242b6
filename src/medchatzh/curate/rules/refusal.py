"""A language model declines: distilled data are full of it, and it teaches to decline."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medchatzh.curate.rules.registry import CONTENT, Case, Seen, rule
from medchatzh.curate.rules.thresholds import PoolRules

if TYPE_CHECKING:
    from medchatzh.curate.features import Features, Mask

_HEAD_CHARS = 120
_SELVES = ("作为", "我是", "我只是", "我不过是", "身为")
_MODELS = ("人工智能", "ai", "语言模型", "智能助手", "虚拟助手", "机器人")
_APOLOGIES = ("抱歉", "对不起", "不好意思", "遗憾")
_CANNOT = tuple(f"{cannot}{what}" for cannot in ("无法", "不能") for what in ("为您", "为你", "给您", "给你", "提供", "回答", "给出"))
_DECLINES = re.compile(
    r"(?:作为|我是|我只是|我不过是|身为)[^。！？\n]{0,16}(?:人工智能|AI|语言模型|智能助手|虚拟助手|聊天机器人|机器人)"
    r"[^。！？\n]{0,40}(?:无法|不能|不可以|没有能力|没有办法|不具备|没有资格|不会|不便)"
    r"|^[^。！？\n]{0,8}(?:抱歉|对不起|不好意思|遗憾)[，,。！! ]{0,2}(?:但是|但|由于)?[^。！？\n您你]{0,12}(?:无法|不能|没有办法|没办法)"
    r"(?:为您|为你|给您|给你|向您|对此|直接|替您)?(?:提供|回答|回复|给出|进行|作出|做出|满足|协助|帮助|诊断|讨论|继续|完成|处理|理解)"
    r"|^(?:我)?(?:无法|不能)(?:为您|为你|给您|给你)?(?:提供|回答|给出)[^。！？\n]{0,12}(?:医疗|医学|诊断|用药|建议|问题)"
)
# A question about the model itself (in medical records 您 is the doctor): that it has no body, no wishes and no memory is the answer.
_ASKS_MODEL = re.compile(
    r"(?i:chatgpt|语言模型)|[你您](?:的(?:日常|生活|感|爱好|经历)|是|有|会|自己|的回答|喜欢|觉得|看到|听到|还?记得|危险|怎么样|能(?:创造|画|看|听|记))"
)
_MAX_MODEL_QUESTION_CHARS = 60
_SENTENCE = re.compile(r"[^。！？!?\n]+")
# What follows a refusal without making it an answer: offers, requests for more, and whom to ask instead.
_DEFLECTS = re.compile(
    r"如果|若|请问|能否|是否|[？?]$|我(?:的|只能|可以|很乐意|仍|没有|无法|不能|会)|(?:建议|应|请|可以)[^，]{0,8}(?:咨询|询问|寻求|联系|查看|访问|查询|提供|参考)|"
    r"抱歉|对不起|语言模型|人工智能|需要注意|作为"
)
_MAX_LEFT_CHARS = 40


def _may_decline(features: Features, _: PoolRules) -> Mask:
    return (features.has(_SELVES) & features.has(_MODELS)) | features.has(_APOLOGIES) | features.has(_CANNOT)


@rule(CONTENT + 3, gate=_may_decline, groups=(_SELVES, _MODELS, _APOLOGIES, _CANNOT))
def refusal(case: Case) -> Seen | None:
    """The answers decline (作为一个人工智能语言模型，我无法…), and nothing that helps follows.

    Not so where the refusal is only an opening (…，但一般来说有以下原因：1.…), where the question is about the model itself, or where
    most answers of a dialogue do not decline. Any refusal at all dropped 106 real records, two of three of them useful.
    """
    asked, declined, num_answers = "", [], 0
    for place, turn in enumerate(case.dialogue.turns):
        if turn.role != "assistant":
            asked = turn.content
            continue
        num_answers += 1
        match = _DECLINES.search(turn.content[:_HEAD_CHARS])
        about_model = case.dialogue.pool == "general" and len(asked) <= _MAX_MODEL_QUESTION_CHARS and _ASKS_MODEL.search(asked)
        if match and not about_model and _chars_of_help(turn.content, match.end()) <= _MAX_LEFT_CHARS:
            declined.append(Seen(match[0][:40], place, *match.span()))
    return declined[0] if len(declined) > case.settings.max_refusal_share * num_answers else None


def _chars_of_help(text: str, start: int) -> int:
    """Characters of the sentences after the one that declines, without those that deflect."""
    end = _SENTENCE.match(text, start)
    rest = text[end.end() if end else start :]
    return sum(len(sentence[0]) for sentence in _SENTENCE.finditer(rest) if not _DEFLECTS.search(sentence[0]))
