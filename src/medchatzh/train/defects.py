"""Rankings made by rule: a doctor's answer above what planted damage makes of it.

Public rankings are few, and in them the longer answer is mostly the better one. Here length tells nothing: a repeated answer is longer, a
cut or shortened one shorter, an off-topic one as long as the right one, and polite emptiness of any length.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np

from medchatzh.records import Dialogue, Preference, Turn, normalize

Kind = Literal["repeated", "cut", "shortened", "off_topic", "empty", "shuffled", "echoed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TAUGHT: tuple[Kind, ...] = ("repeated", "cut", "shortened", "off_topic", "empty")
"""Kinds that a lesson plants if it names none. The last two are there to measure on: damage that nobody taught."""
SOURCE = "defects"
LENGTHS = (60, 1500)
"""Characters of an answer, from and to. A shorter one cut in half is often a good answer still; a longer one seldom fits the row."""
_NEIGHBOURS = 32
"""An off-topic answer is drawn from so many of the nearest length."""
_SENTENCE = re.compile(r"[^。！？；!?;\n]*[。！？；!?;\n]+|[^。！？；!?;\n]+$")
_PLEASANTRIES = (
    "您好，感谢您的咨询。",
    "您好，很高兴为您解答。",
    "非常理解您的心情。",
    "请您不要过于担心，保持良好的心态。",
    "希望我的回答对您有所帮助。",
    "祝您早日康复！",
    "如果您还有其他问题，欢迎随时提问。",
    "感谢您对我们的信任与支持。",
    "祝您身体健康，生活愉快！",
    "您的健康是我们最大的心愿。",
    "我们会竭诚为您服务。",
    "请您放心，一切都会好起来的。",
    "谢谢您的耐心等待。",
    "以上内容仅供参考，谢谢您的理解。",
    "建议您及时咨询专业医生，祝您一切顺利。",
    "很抱歉给您带来不便，请您谅解。",
)


class Answered:
    """Dialogues as one question and one answer: all a doctor said, joined by blank lines, as `disc_scores` reads a conversation."""

    def __init__(self, dialogues: Sequence[Dialogue], chars: tuple[int, int] = LENGTHS) -> None:
        """Those with a question and an answer of so many characters."""
        pairs = [(each, "\n\n".join(each.answers)) for each in dialogues if each.question]
        pairs = [(each, answer) for each, answer in pairs if chars[0] <= len(answer) <= chars[1]]
        self.pairs = sorted(pairs, key=lambda pair: (len(pair[1]), pair[0].id))
        self._lengths = [len(answer) for _, answer in self.pairs]

    def other(self, number: int, random: np.random.Generator) -> str:
        """The answer of about the same length to another question; '' where there is none."""
        dialogue, answer = self.pairs[number]
        middle = bisect_left(self._lengths, len(answer))
        near = self.pairs[max(0, middle - _NEIGHBOURS // 2) : middle + _NEIGHBOURS // 2]
        others = [each for asked, each in near if normalize(asked.question) != normalize(dialogue.question) and each != answer]
        return others[int(random.integers(len(others)))] if others else ""


def sentences(text: str) -> list[str]:
    """Pieces that make up the text, each with the marks that end it."""
    return _SENTENCE.findall(text)


def repeated(answer: str, random: np.random.Generator) -> str:
    """One passage over and over behind what stands before it: half the time longer than the answer, half the time as long."""
    pieces = sentences(answer)
    width = int(random.integers(1, min(3, len(pieces)) + 1))
    last = int(random.integers(width, len(pieces) + 1))
    before, passage = "".join(pieces[:last]), "".join(pieces[last - width : last])
    wanted = len(answer) * (1 if random.random() < 0.5 else random.uniform(1.2, 2.0))
    times = max(2, round((wanted - len(before)) / max(1, len(passage))))
    return before + passage * times


def cut(answer: str, random: np.random.Generator) -> str:
    """Its first 20 to 80 %, broken off within a sentence."""
    at = max(1, int(len(answer) * random.uniform(0.2, 0.8)))
    return re.sub(r"[\W_]+$", "", answer[:at]) or answer[:at]


def shortened(answer: str, random: np.random.Generator) -> str:
    """Its first sentences, 20 to 80 % of it: nothing but what is missing tells. Nothing of an answer of one sentence."""
    pieces = sentences(answer)
    if len(pieces) < 2:
        return ""
    ends = np.cumsum([len(piece) for piece in pieces[:-1]])
    return answer[: int(ends[np.abs(ends - len(answer) * random.uniform(0.2, 0.8)).argmin()])].rstrip()


def empty(answer: str, random: np.random.Generator) -> str:
    """Pleasantries alone, up to as long as the answer, none of them twice."""
    order = random.permutation(len(_PLEASANTRIES))[: int(random.integers(1, 1 + min(len(_PLEASANTRIES), max(2, len(answer) // 14))))]
    return "".join(_PLEASANTRIES[number] for number in order)


def shuffled(answer: str, random: np.random.Generator) -> str:
    """Its characters but punctuation in another order within windows of twelve: no word stays whole."""
    characters = list(answer)
    for start in range(0, len(characters), 12):
        places = [place for place in range(start, min(start + 12, len(characters))) if characters[place].isalnum()]
        for place, value in zip(places, [characters[places[number]] for number in random.permutation(len(places))], strict=True):
            characters[place] = value
    return "".join(characters)


_DAMAGE: dict[Kind, Callable[[str, np.random.Generator], str]] = {
    "repeated": repeated,
    "cut": cut,
    "shortened": shortened,
    "empty": empty,
    "shuffled": shuffled,
}


def damage(answered: Answered, number: int, kind: Kind, random: np.random.Generator) -> str:
    """The answer of a dialogue, damaged; '' where it cannot be (it would be what it was)."""
    dialogue, answer = answered.pairs[number]
    if kind == "off_topic":
        return answered.other(number, random)
    if kind == "echoed":  # the question handed back, up to the answer's length
        found = (dialogue.question + "\n\n") * max(1, len(answer) // (len(dialogue.question) + 2))
        found = found.strip()
    else:
        found = _DAMAGE[kind](answer, random)
    return found if normalize(found) not in ("", normalize(answer)) else ""


def plant(
    dialogues: Sequence[Dialogue],
    count: int,
    seed: int,
    kinds: Sequence[Kind] = TAUGHT,
    chars: tuple[int, int] = LENGTHS,
    epoch: int = 0,
) -> Iterator[Preference]:
    """Up to `count` rankings: rank 1 the answer, rank 2 its damaged forms, in the order of `kinds`. Another `epoch` is another draw.

    Dialogues are drawn by seed, without replacement, in proportion to the length of their answers: most answers of doctors are short,
    those that people rank are long.
    """
    answered = Answered(dialogues, chars)
    lengths = np.array([len(answer) for _, answer in answered.pairs])
    order = np.argsort(np.random.default_rng((seed, 1, epoch)).exponential(size=len(lengths)) / lengths)  # Efraimidis and Spirakis 2006
    for number in order[:count].tolist():
        dialogue, answer = answered.pairs[number]
        random = np.random.default_rng((seed, 2, epoch, number))
        found = [each for each in dict.fromkeys(damage(answered, number, kind, random) for kind in kinds) if each]
        if found:
            yield Preference(
                id=f"{SOURCE}:{dialogue.id}",
                source=SOURCE,
                origin=dialogue.origin,
                group=dialogue.id,
                prompt=(Turn("user", dialogue.question),),
                answers=(answer, *found),
                ranks=(1, *[2] * len(found)),
            )
