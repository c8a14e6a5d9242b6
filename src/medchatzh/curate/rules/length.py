"""Answers that are too short, or stop before they end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from medchatzh.curate.rules.registry import LENGTH, Case, Seen, rule
from medchatzh.curate.rules.thresholds import PoolRules
from medchatzh.curate.rules.tokens import counter

if TYPE_CHECKING:
    from medchatzh.curate.features import Features, Mask

# Asks for a name, a number, a place, yes or no: what can rightly be answered in a word ...
_ASKS_FACT = re.compile(
    r"什么|啥|哪|多少|多大|多久|多长|几|谁|何|吗|是否|是不是|能不能|能否|可否|有没有|会不会|怎样的|名称|诊断|病因|科室|部位|预后|方案|作用|反应|是[？?]?$"
)
# ... unless it is advice that is asked for.
_ASKS_ADVICE = re.compile(r"怎么办|咋办|怎么治|怎么[处护调预缓减]|(?<!预后)如何|怎么回事|怎么了|请.{0,6}(?:介绍|说明|解释|描述|分析|列举)")

_OPENERS = "，,、：:（(“‘《【"
# Words that no Chinese sentence ends with: they call for a complement. Counted over 38,895 real records; words that often close a sentence
# there (可以, 进行, 注意, 一些, 避免; 很重要, 就诊的机会, 最好不要, 与年龄关于 for 有关) are left out or guarded, and so is a word that is
# the answer itself (不, 旦是→但是).
_DANGLING = re.compile(
    r"(?<=[\u4e00-\u9fff，。；、])(?:建议[您你]?|应该|应当|需要|以及|或者?|和|与|及|并且?|而且|但是?|因为|由于|所以|因此|如果|例如|比如|包括|比较|"
    r"为了|通过|根据|对于|尤其|特别是|其中|然后|(?<!的)同时|还有|还要|在|从|把|被|让|使|向|(?<!关)于|(?<!可)以|将|[您你]的|患者的|一般|(?<!的)主要|"
    r"首先|其次|最后|另外|此外|还|也|就|(?<![原规法])则|[即而就又只]是|(?<![重主首必需不])要|(?<=[就都也将才便])会|(?<![在好要治])不|很|非常|更|(?<!之)最|"
    r"这|那|每|第|的时候|[明这就很还则又]可能)$"
)
_DANGLING_ENDS = (
    "议您你该当要及者或和与并且而但是为于以此果如括较了过据对其中后时有在从把被让使向将的般先次外还也就则会不很常更最这那每第候能"
)
_CONDITIONS = ("如果", "若是", "假如", "由于", "因为", "虽然", "尽管", "不仅", "不但")
# It opens its clause (病因为感染 does not), and no word of a consequence follows.
_OPEN_CONDITION = re.compile(
    rf"(?:^|[，。！？；：\n,;]|[0-9][.、] ?)(?P<value>(?:{'|'.join(_CONDITIONS)})"
    r"[^，。！？；\n,;就则可应要请最即都也会需不以能必没别去]{2,20})$"
)
# A clause that only leads in: 对于肝病患者来说，
_LEAD_IN = re.compile(r"(?:对于?|针对)[^，。！？；\n,;]{2,20}(?:来说|而言)$")
_PROMPT = re.compile(r"(?:输入|选择|填写|回复)[^。！？\n]{0,20}[:：]$")
_CLAUSE_END = re.compile(r"[，。！？；\n,;!?]")
_TAIL_CHARS = 80
"""Longer than any of the patterns: a search over whole answers took ten times as long."""
_CAUSE_SAID = re.compile(r"(?:引起|引发|导致|所致|造成)的?$")


def _may_be_short(features: Features, settings: PoolRules) -> Mask:
    short = features.longest_answer < settings.min_answer_chars
    return np.ones_like(short) if settings.min_answer_tokens else short


@rule(LENGTH, gate=_may_be_short)
def short_answer(case: Case) -> str | None:
    """The longest answer is too short. The paper, data section: general answers of fewer than 200 tokens are discarded.

    In a dialogue short answers between others (多久了？) are how people talk; so the longest counts. A word can be all that was asked for
    (诊断是什么？ 心肌炎。).
    """
    settings = case.settings
    longest = max((text.strip() for _, text in case.answers()), key=len, default="")
    if len(longest) < settings.min_answer_chars:
        return None if longest and settings.short_facts and _asks_fact(case) else f"{len(longest)} characters"
    if settings.min_answer_tokens:
        tokens = max((counter(settings.tokenizer)(text) for _, text in case.answers()), default=0)
        return f"{tokens} tokens" if tokens < settings.min_answer_tokens else None
    return None


def _asks_fact(case: Case) -> bool:
    return not case.is_multi_turn and _ASKS_FACT.search(case.question) is not None and _ASKS_ADVICE.search(case.question) is None


def _ends_open(features: Features, _: PoolRules) -> Mask:
    last = features.traits.last
    is_hanzi = (last >= 0x4E00) & (last <= 0x9FFF)
    return np.isin(last, list(map(ord, _OPENERS + _DANGLING_ENDS))) | (is_hanzi & features.has(_CONDITIONS))


@rule(LENGTH + 1, gate=_ends_open, groups=(_CONDITIONS,))
def cut_off(case: Case) -> Seen | None:
    """The last answer stops in mid-sentence: a truncated download, or a generator that ran into its limit.

    A missing full stop alone proves nothing: whole sources of right answers write none, or a comma. So the end must be an open clause (a
    colon, an enumeration, a word that wants a complement, a condition without its consequence). Dropping whatever ends with a comma would
    take 148 of 36,601 real records; nearly all of those read were complete.
    """
    place, text = next(reversed(list(case.answers())), (0, ""))
    last = text.rstrip()
    if not last or "```" in last:
        return None
    start = max(0, len(last) - _TAIL_CHARS)
    tail = last[start:]

    def seen(detail: str, first: int, end: int) -> Seen:
        return Seen(detail, place, start + first, start + end)

    body = tail.rstrip("，,")
    if tail[-1] in "：:" and not _PROMPT.search(tail):
        return seen(f"nothing after {tail[-1]!r}", len(tail) - 1, len(tail))
    if tail[-1] in "（(“‘《【" or (tail[-1] == "、" and "、" in _CLAUSE_END.split(tail)[-1][:-1]):
        return seen(f"ends with {tail[-1]!r}", len(tail) - 1, len(tail))
    if match := _DANGLING.search(body):
        return seen(f"ends with {match[0]!r}", *match.span())
    if body != tail and (match := _LEAD_IN.search(body)):
        return seen(f"only leads in: {match[0]!r}", *match.span())
    if "\u4e00" <= body[-1:] <= "\u9fff" and (match := _OPEN_CONDITION.search(body)) and not _CAUSE_SAID.search(body):
        return seen(f"a condition without consequence: {match['value']!r}", *match.span("value"))
    return None
