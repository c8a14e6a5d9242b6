"""Sentences that stand under many different questions and say nothing about any of them, found by counting.

`survey` counts clauses over a sample of answers, `find` picks those that recur, `trim` takes them from the ends of an answer. On 18,691
different real medical questions 40 clauses recur under one in a thousand and carry no advice (`期望上述的答案可以协助到你`, 204 times).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from medchatzh.records import Dialogue, normalize

MIN_CHARS, MAX_CHARS = 6, 40
"""Normalised length of a clause that can be boilerplate. A shorter one can be a whole answer (`是的`, `可以的`, `不需要`)."""
MIN_COUNT = 10
"""Different questions under which a clause must stand, however small the sample."""

_CLAUSE = re.compile(r"[^，,。；;！!？?～~…\n]+[，,。；;！!？?～~…\n]*")
SUBSTANCE = "0123456789药医诊治疗查检症病痛疼炎癌瘤伤血尿便热烧咳喘痒肿胀吐泻晕睡眠食吃喝饮酒烟菜果肉奶术肝肾胃肺肠"
"""Characters none of which stands in boilerplate."""
# What speaks of a body, a disease, a remedy or a habit is advice, however often it is said (建议及时就医: 2,751 of 29,972 records); so is
# what reasons or answers.
_SUBSTANCE = re.compile(
    rf"[{SUBSTANCE}]|营养|维生素|运动|锻炼|活动|休息|揉|敷|肚|按摩|身心|阴|阳|卫生|习惯|心情|心态|情绪|精神|压力|免疫|抵抗|体质|"
    r"体重|感染|细菌|怀孕|月经|心脏|皮肤|保暖|护理|观察|避免|防止|注意|留意|怎么|什么|吗$|呢$|^(?:是|不|可|能|会|有|没|因为|由于|如果|但|所以|因此)"
)
_HANZI_ONLY = re.compile("[\u3400-\u9fff]+")
_IDLE = (
    r"(?:(?:这位|亲爱的)?(?:患者|朋友|网友|家长|亲)?[您你]好",
    r"谢谢(?:[您你]的?(?:提问|咨询|信任))?",
    r"不客气",
    r"祝(?:[您你]|患者|宝宝)?(?:早日|身体|生活|一切|健康|好运|平安)[\u4e00-\u9fff]{0,6}",
    r"(?:以上|仅)(?:意见|回答|建议|内容)?(?:可以)?(?:仅)?[供做作]为?(?:您|你)?参考",
    r"希望(?:以上|上述|我)?的?(?:回答|解答|答案|建议)?[对能可][\u4e00-\u9fff]{0,8}(?:帮助|帮到[您你]))",
)
_GREETING = re.compile("|".join(_IDLE))
_OPEN_END = re.compile(r"[，,；;]+$")


def clauses(text: str) -> list[str]:
    """The text cut after every punctuation mark; joined they are the text again (but for leading marks)."""
    return _CLAUSE.findall(text)


def is_sampled(record: Dialogue, share: float) -> bool:
    """Whether the record belongs to a sample of this share: by its question alone, so that every run and every shard agree."""
    digest = hashlib.blake2b(normalize(record.question).encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "big") < share * 2**32


def survey(records: Iterable[Dialogue], share: float = 1.0) -> Counter[str]:
    """Normalised clause → number of sampled questions under which it stands; '' → number of sampled questions. A question counts once.

    Surveys of shards add up (`sum(…, Counter())`); 30 MB hold 100,000 sampled records.
    """
    found: Counter[str] = Counter()
    seen: set[str] = set()
    for record in records:
        asked = normalize(record.question)
        if asked in seen or not is_sampled(record, share):
            continue
        seen.add(asked)
        said = {normalize(clause) for answer in record.answers for clause in clauses(answer)}
        found.update(clause for clause in said if MIN_CHARS <= len(clause) <= MAX_CHARS and _HANZI_ONLY.fullmatch(clause))
        found[""] += 1
    return found


def find(table: Mapping[str, int], total: int, min_share: float = 0.001) -> frozenset[str]:
    """The clauses of a survey that stand under at least this share of `total` questions (and `MIN_COUNT`) and say nothing medical."""
    least = max(MIN_COUNT, min_share * total)
    return frozenset(clause for clause, count in table.items() if clause and count >= least and not _SUBSTANCE.search(clause))


def trim(text: str, table: Collection[str]) -> str:
    """The text without greetings, wishes and boilerplate at its beginning and end; unchanged where nothing else would be left.

    A comma that would then end the text becomes a full stop. Idempotent: what is left begins and ends with a clause that says something.
    On real data it edits 8 % of the medical answers and 1 % of the general ones, most for a 您好.
    """
    while (trimmed := _trimmed(text, table)) != text:  # a mark before the first clause can hide that another pass is due
        text = trimmed
    return text


def _trimmed(text: str, table: Collection[str]) -> str:
    parts = clauses(text)
    first, last = 0, len(parts)
    while first < last and _is_idle(parts[first], table):
        first += 1
    while last > first and _is_idle(parts[last - 1], table):
        last -= 1
    if first == last or (first, last) == (0, len(parts)):
        return text
    kept = "".join(parts[first:last]).strip()
    return kept if last == len(parts) else _OPEN_END.sub("。", kept)


def _is_idle(clause: str, table: Collection[str]) -> bool:
    plain = normalize(clause)
    return plain in table or _GREETING.fullmatch(plain) is not None or not clause.strip()
