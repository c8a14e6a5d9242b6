"""Answers that are too short, or stop before they end."""

from __future__ import annotations

import re

from medchatzh.curate.rules.registry import LENGTH, Case, rule

_CLAUSE_END = re.compile(r"[，、,：:（(“‘《【]$")
# A polite end with a comma is sloppy, but it is the end.
_FAREWELL = re.compile(r"(?:祝|希望|期望|谢谢|感谢|再见|再聊)[^，。！？；\n]{0,20}[，,、]?$")
_SENTENCE_END = "。！？!?…～~；;.)）”’』」》】\"'`>*|"
# Words that no Chinese sentence ends with: they call for a complement. Counted over 38,895 real records; words that often close a
# sentence there (可以, 进行, 注意, 一些, 避免; 很重要, 就诊的机会) are left out or guarded.
_DANGLING = re.compile(
    r"(?:建议[您你]?|应该|应当|需要|以及|或者?|和|与|及|并且?|而且|但是?|因为|由于|所以|因此|如果|例如|比如|包括|比较|为了|通过|根据|对于|"
    r"尤其|特别是|其中|然后|(?<!的)同时|还有|还要|在|从|把|被|让|使|向|于|(?<!可)以|将|[您你]的|患者的|一般|(?<!的)主要|首先|其次|最后|另外|此外|"
    r"还|也|就|(?<![原规法])则|[即而就又只]是|(?<![重主首必需])要|(?<![机社议大])会|(?<![在好要])不|很|非常|更|(?<!之)最|这|那|每|第|"
    r"的时候|[明这就很还则又]可能)$"
)
_OPEN_CONDITION = re.compile(r"(?:如果|若是|假如|由于|因为|虽然|尽管|不仅|不但|为了)[^，。！？；\n就则可应要请最即都也会需不以能]{2,20}$")


@rule(LENGTH)
def short_answer(case: Case) -> str | None:
    """The longest answer is too short. The paper, data section: general answers of fewer than 200 tokens are discarded.

    In a dialogue short answers between others (多久了？) are how people talk; so the longest counts.
    """
    longest = max((len(answer.strip()) for answer in case.dialogue.answers), default=0)
    return f"{longest} characters" if longest < case.settings.min_answer_chars else None


@rule(LENGTH + 1)
def cut_off(case: Case) -> str | None:
    """The last answer stops in mid-sentence: a truncated download, or a generator that ran into its limit.

    A missing full stop alone proves nothing: whole sources of right answers write none. So the end must be an open clause (a comma,
    a word that wants a complement, a condition without its consequence). Dropping whatever ends without a mark after well-formed
    sentences would take 1,060 of 38,895 real records, four of five of them complete.
    """
    last = case.dialogue.answers[-1].rstrip() if case.dialogue.answers else ""
    if not last or "```" in last:
        return None
    if _FAREWELL.search(last):
        return None
    if _CLAUSE_END.search(last):
        return f"ends with {last[-1]!r}"
    if last[-1] in _SENTENCE_END or not "\u4e00" <= last[-1] <= "\u9fff":
        return None
    if dangling := _DANGLING.search(last):
        return f"ends with {dangling[0]!r}"
    if condition := _OPEN_CONDITION.search(last):
        return f"a condition without consequence: {condition[0]!r}"
    return None
