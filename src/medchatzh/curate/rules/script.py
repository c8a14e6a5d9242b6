"""Texts that are no Chinese, or no text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medchatzh.curate.rules.registry import CONTENT, Case, rule
from medchatzh.curate.rules.thresholds import PoolRules

if TYPE_CHECKING:
    from medchatzh.curate.features import Features, Mask

_HANZI = re.compile("[\u3400-\u9fff]")
# Tasks whose answer is rightly in another script (translation, code, formulas).
_OTHER_SCRIPT_ASKED = re.compile(
    r"英|翻译|译成|译为|法语|法文|日语|日文|德语|德文|俄语|俄文|韩语|韩文|西班牙|葡萄牙|意大利|阿拉伯|拉丁|拼音|单词|字母|代码|编程|程序|"
    r"函数|脚本|命令|正则|公式|方程|算式|计算|表达式|网址|链接|邮箱|缩写|格式|(?i:python|java|sql|html|css|c\+\+|json|latex|excel|shell|linux)"
)
_LETTERS = re.compile(r"[^\W_]")
_LATIN_WORD = re.compile("[a-z]{4}")
# Running text, not a list of drug names or a chess position: words one after another, or kana.
_SENTENCE = re.compile(r"(?:(?<![^\W\d_])[^\W\d_\u3400-\u9fff]+[,.:;'’]*\s+){4}[^\W\d_]|[\u3040-\u30ff]{10}")
_MIN_LETTERS = 20
# U+FFFD and private use are lost characters. The hanzi are what UTF-8 text looks like when read as GBK (的 → 鐨).
_JUNK_HANZI = "鐨鍦槸涓浠鍙銆锛鏈浜鎴鐢鍚锟烫屯锛"
_MOJIBAKE_HEADS = "ÂÃäåæçèéïãâ"
_JUNK = re.compile(f"[\ufffd\ue000-\uf8ff\x00-\x08\x0e-\x1f{_JUNK_HANZI}]|[ÂÃäåæçèéïã][\x80-\xbf]|â€|ï¿½")
JUNK = "".join(map(chr, (0xFFFD, *range(0xE000, 0xF900), *range(9), *range(0x0E, 0x20)))) + _JUNK_HANZI + _MOJIBAKE_HEADS
"""Characters one of which every lost or wrongly decoded stretch begins with."""


def _may_be_garbage(features: Features, _: PoolRules) -> Mask:
    counts = features.counts
    return (counts["hanzi_question"] == 0) | (counts["hanzi_answer"] == 0) | (counts["junk_all"] > 0)


@rule(CONTENT, gate=_may_be_garbage)
def garbage(case: Case) -> str | None:
    """No question, no letters, or characters that no decoding can have meant."""
    asked = case.question
    if case.is_multi_turn:  # a consultation may begin with a picture or a lone question mark
        asked = "\n".join(turn.content for turn in case.dialogue.turns if turn.role == "user")
    for name, text in (("question", asked), ("answer", case.answer)):
        if _LETTERS.search(text) is None and (text.strip() or name == "question"):
            return f"the {name} holds no letters"
        junk = _JUNK.findall(text)
        if junk and len(junk) > case.settings.max_junk_share * len(text):
            return f"{len(junk)} of {len(text)} characters of the {name} are lost or wrongly decoded"
    return None


def _may_be_foreign(features: Features, settings: PoolRules) -> Mask:
    return (features.num_answers == 1) & (features.counts["hanzi_answer"] < settings.min_hanzi_share * features.answer_chars)


@rule(CONTENT + 2, gate=_may_be_foreign)
def foreign_language(case: Case) -> str | None:
    """A Chinese question answered in another language, where nobody asked for one."""
    # A share of the whole text is a share of its letters too: most answers need no more than this.
    if len(_HANZI.findall(case.answer)) >= case.settings.min_hanzi_share * len(case.answer):
        return None
    if case.is_multi_turn or "```" in case.answer or _OTHER_SCRIPT_ASKED.search(case.question):
        return None
    if case.dialogue.pool == "general" and _LATIN_WORD.search(case.question):
        return None
    if not _mostly_hanzi(case.question, 0.5):
        return None
    letters = sum(character.isalpha() for character in case.answer)
    if letters < _MIN_LETTERS or _mostly_hanzi(case.answer, case.settings.min_hanzi_share) or not _SENTENCE.search(case.answer):
        return None
    return f"{len(_HANZI.findall(case.answer))} hanzi among {letters} letters"


def _mostly_hanzi(text: str, share: float) -> bool:
    letters = sum(character.isalpha() for character in text)
    return letters > 0 and len(_HANZI.findall(text)) >= share * letters
