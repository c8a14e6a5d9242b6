"""The report's section of samples to judge: personal data, near duplicates, boilerplate, and rejects of every reason."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from medchatzh.records import Dialogue, Reject, read
from medchatzh.report.data import Inputs, quote
from medchatzh.report.draws import MASK, Drawn
from medchatzh.report.quotes import differences, marked, transcript
from medchatzh.report.view import Block, Both, Heading, Quote, Quotes, Row, Side, Table, Text, count, text

_CHARS = 240
_PAIR_CHARS = 600
_CONTEXT_CHARS = 80
_MAX_SENTENCES = 40


class Pair(msgspec.Struct):
    """A line of `near_pairs.jsonl`."""

    similarity: float
    dropped: Dialogue
    keeper: Dialogue


def evidence(inputs: Inputs, drawn: Drawn) -> tuple[Block, ...]:
    blocks = [*_personal(inputs, drawn), *_pairs(inputs), *_boilerplate(inputs), *_rejects(inputs, drawn)]
    return tuple(blocks) or (Text(Both("没有舍弃的记录。", "No record was dropped.")),)


def _personal(inputs: Inputs, drawn: Drawn) -> Iterator[Block]:
    counts = inputs.facts("curate").get("personal_data")
    if not drawn.personal and not counts:
        return
    yield Heading(Both("个人信息", "Personal data"))
    if isinstance(counts, dict):
        rows = tuple(Row((text(kind), count(found))) for kind, found in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
        yield Table(Both("个人信息的种类", "Kinds of personal data"), ("种类 / kind", "条数 / records"), rows)
    note = Both("每种随机抽取，供判断是否误判；值已遮盖", "Drawn at random for each kind, to judge false positives; values are masked")
    for mask, places in drawn.personal.items():
        quotes = tuple(Quote(place.id, "", (Side("", marked(place.text, [(place.start, place.end)], _CONTEXT_CHARS)),)) for place in places)
        if quotes:
            yield Quotes(Both(f"{mask} 的前后文（{len(quotes)} 例）", f"{mask} in context"), quotes, (note,))


def _pairs(inputs: Inputs) -> Iterator[Block]:
    path = inputs.folders["curate"] / "near_pairs.jsonl" if "curate" in inputs else None
    if path is None or not path.exists():
        return
    quotes = []
    for pair in read(path, Pair):
        texts = [transcript(msgspec.to_builtins(record))[0][:_PAIR_CHARS] for record in (pair.dropped, pair.keeper)]
        sides = zip(("舍弃 / dropped", "保留 / keeper"), (pair.dropped, pair.keeper), texts, differences(*texts), strict=True)
        shown = tuple(Side(f"{label} {record.id}", marked(words, spans, _PAIR_CHARS, whole=True)) for label, record, words, spans in sides)
        quotes.append(Quote(f"J = {pair.similarity:.2f}", "", shown))
    if quotes:
        yield Heading(Both("近似重复", "Near duplicates"))
        note = Both(f"不同的字已标出；长文截到 {_PAIR_CHARS} 字", f"Differing characters are marked; texts cut to {_PAIR_CHARS}")
        yield Quotes(Both(f"近似重复的对照（{len(quotes)} 对）", "Near-duplicate pairs side by side"), tuple(quotes), (note,))


def _boilerplate(inputs: Inputs) -> Iterator[Block]:
    found = inputs.facts("curate").get("boilerplate")
    if isinstance(found, list) and found:
        rows = tuple(Row((text(quote(str(sentence), _CHARS)), count(times))) for sentence, times in found[:_MAX_SENTENCES])
        yield Heading(Both("套话", "Boilerplate"))
        caption = Both("许多不同问题的答案里都有的句子", "Sentences that stand in the answers to many different questions")
        yield Table(caption, ("句子 / sentence", "次数 / count"), rows)


def _rejects(inputs: Inputs, drawn: Drawn) -> Iterator[Block]:
    if not any(drawn.rejects.values()):
        return
    yield Heading(Both("各原因的舍弃样例", "Rejects of each reason"))
    yield Text(
        Both(
            "每个原因随机抽取；规则所见之处已标出，个人信息已遮盖。", "Drawn at random; what the rule saw is marked, personal data masked."
        )
    )
    for (label, reason), rejects in drawn.rejects.items():
        whole = inputs.manifests[label].dropped.get(reason, len(rejects))
        quotes = tuple(_reject(reject) for reject in rejects)
        caption = Both(f"{label} · {reason}（{whole:,} 条中 {len(quotes)} 条）", f"{len(quotes)} of {whole:,}")
        yield Quotes(caption, quotes)


def _reject(reject: Reject) -> Quote:
    words, starts = transcript(reject.record)
    return Quote(reject.id, reject.detail[:_CHARS], (Side("", marked(words, _spans(reject, words, starts), _CHARS)),))


def _spans(reject: Reject, words: str, starts: list[int]) -> list[tuple[int, int]]:
    """What to mark: the masks of personal data, or what the rule saw."""
    if reject.reason == "personal_data":
        return [found.span() for found in MASK.finditer(words)]
    if reject.span is None or reject.span[0] >= len(starts):
        return []
    turn, start, end = reject.span
    return [(starts[turn] + start, starts[turn] + end)]
