"""Repairs on all real dialogues: nothing that a number says is changed, and no repair works where its signs are not."""

import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from medchatzh import ingest, records
from medchatzh.curate.lists import harmonise, lists
from medchatzh.curate.repair import ANSWERS_ONLY, CLASSES, REPAIRS, SIGNS, may_change, placed, repair
from medchatzh.records import Dialogue, Turn
from medchatzh.run import Context

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "public-data.toml"

# Written without a look at lists.py: what a number in running text looks like.
TOKENS = re.compile(
    r"(?:\d+[.．]\d+"  # decimals
    r"|\d+ ?(?:mg|ml|μg|ug|kg|g|IU|mmHg|mmol|℃|毫克|微克|毫升|克|片|粒|支|单位|次|针|%|％)"  # doses, measures
    r"|\d{2,4}年(?:\d{1,2}月)?(?:\d{1,2}[日号])?|\d{1,2}月\d{1,2}[日号]|\d{4}[-./]\d{1,2}[-./]\d{1,2}"  # dates
    r"|\d+ ?(?:[-~～—－]|至|到) ?\d+"  # ranges
    r"|\d+ ?[:：∶] ?\d+"  # ratios, times
    r"|\d{2,3}/\d{2,3}"  # blood pressure
    r"|(?:维生素|[Vv]it) ?[A-Za-z]\d*|[A-Za-z]-?\d+|[A-Z]{2,}\d*"  # vitamins, genes, PCO2, T4
    r"|(?:第|糖酐|化合物|白介素|干扰素) ?\d+"
    r"|\d+(?:[、，,]\d+){2,}|(?<=[^\W\d])\d+(?:、\d+)+)"  # enumerations: months 0、1、6; 每日2、3次
    r"[、.．，,:：)）]?"  # and its mark, which a careless rewriting takes for a list's
)
NAIVE = re.compile(r"[（(]?(\d{1,2})[、）).．，,:：](?!\d)")


@pytest.fixture(scope="module")
def dialogues(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Dialogue]:
    """Every medical and general dialogue that the recipe for public data reads, none left out."""
    chosen = [source for source in tomllib.loads(RECIPE.read_text("utf-8"))["ingest"]["sources"] if source["path"][:3] in ("med", "gen")]
    sources = tuple(msgspec.convert({**source, "limit": 0}, ingest.Source) for source in chosen)
    config = ingest.Config(sources=sources)
    out = tmp_path_factory.mktemp("ingest")
    ingest.run(config, {}, out, Context(), files=ingest.raw_files(config, shared_data))
    found = list(records.read(out / "dialogues.jsonl", Dialogue))
    assert len(found) > 30_000
    return found


def answers(dialogues: Sequence[Dialogue]) -> list[str]:
    return [answer for dialogue in dialogues for answer in dialogue.answers]


def test_lists_are_harmonised_and_no_number_inside_the_text_is_changed(dialogues: list[Dialogue]) -> None:
    changed = [(text, made) for text in answers(dialogues) if (made := harmonise(text)) != text]
    assert 300 <= len(changed) <= 400  # all were read: lists, every one
    for text, made in changed:
        assert harmonise(made) == made
        assert TOKENS.findall(made) == TOKENS.findall(text)
        assert re.sub(r"[\W\d一二三四五六七八九十①-⒛]", "", made) == re.sub(r"[\W\d一二三四五六七八九十①-⒛]", "", text)


def test_the_tokens_tell_damage(dialogues: list[Dialogue]) -> None:
    """The test above could fail: rewriting every number that has a mark damages hundreds of answers."""
    damaged = [text for text in answers(dialogues) if TOKENS.findall(NAIVE.sub(r"\1.", text)) != TOKENS.findall(text)]
    assert len(damaged) > 300


def test_lists_of_every_style_are_found(dialogues: list[Dialogue]) -> None:
    styles = Counter(each.first.style for text in answers(dialogues) for each, _ in lists(text) if harmonise(text) != text)
    least = {"arabic、": 130, "paren": 35, "arabic)": 20, "enclosed9311": 15, "hanzi": 12, "hanzi_paren": 10, "arabic,": 15, "arabic。": 3}
    assert {style: styles[style] for style in least if styles[style] < least[style]} == {}, styles


def test_a_repair_changes_only_what_has_its_signs_and_needs_no_second_pass(dialogues: list[Dialogue]) -> None:
    edits: Counter[str] = Counter()
    for dialogue in dialogues:
        turns = list(dialogue.turns)
        for name, edit in REPAIRS.items():
            for place, turn in enumerate(turns):
                if (name in ANSWERS_ONLY and turn.role != "assistant") or (text := edit(turn.content)) == turn.content:
                    continue
                assert may_change(name, turn.content), (name, dialogue.id)
                assert edit(text) == text, (name, dialogue.id)
                edits[name] += 1
                turns[place] = Turn(turn.role, text)
        if tuple(turns) != dialogue.turns:
            repaired = repair(dialogue, tuple(REPAIRS))
            assert repair(repaired, tuple(REPAIRS)).turns == repaired.turns, dialogue.id
        else:
            assert repair(dialogue, tuple(REPAIRS)) is dialogue
    assert edits.keys() == REPAIRS.keys() - {"encoding"}  # no file here is misread


def test_most_records_have_no_sign(dialogues: list[Dialogue]) -> None:
    """What is looked at in vain costs time: lists in fewer than 3 % of the records, any repair in fewer than 15 %."""
    texts = [turn.content for dialogue in dialogues for turn in dialogue.turns]
    owner = np.repeat(np.arange(len(dialogues)), [len(dialogue.turns) for dialogue in dialogues])
    codes = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
    opened = placed(codes, np.cumsum([0, *map(len, texts)]))
    for name, groups in SIGNS.items():
        found = np.ones(len(texts), bool)
        for group in groups:
            some = re.compile("|".join(re.escape(string) for sign in group for string in CLASSES.get(sign, (sign,))))
            found[found] = [some.search(text) is not None for text, seen in zip(texts, found.tolist(), strict=True) if seen]
        if name == "list_numbers":
            assert len(np.unique(owner[found])) < 0.03 * len(dialogues)
        opened |= found
    assert len(np.unique(owner[opened])) < 0.15 * len(dialogues)
