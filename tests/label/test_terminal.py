"""Ranking by typing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.label.session import LETTERS, Session
from medchatzh.label.terminal import harmless, parse, rank
from medchatzh.label.verdicts import ranks_of
from tests.label.conftest import HOSTILE


@pytest.fixture
def typed(folder):
    """Types lines as wang; gives the session and what the terminal showed."""

    def typed(*lines: str) -> tuple[Session, str]:
        shown: list[str] = []
        session = Session(folder, "wang")
        rank(session, iter(lines), shown.append)
        session.close()
        return session, "".join(shown)

    return typed


@pytest.mark.parametrize("text", ["b > a=c > d\n", "b>a=c>d", "B A=C D", "ba=cd", "ＢＡ＝Ｃ＞Ｄ", "b》a = c,d", "b a= c d"])
def test_a_ranking_can_be_typed_in_many_ways(text):
    assert ranks_of(parse(text, 4)) == (2, 1, 2, 4)


def test_nothing_is_a_tie_by_accident():
    assert parse("abcd", 4) == [1, 2, 3, 4] and parse("a=b=c=d", 4) == [1, 1, 1, 1]
    assert ranks_of(parse("=ab", 2)) == (1, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b c", "still missing: D"),
        ("a b c e", "no answer E; there are A B C D"),
        ("a b c a", "A is there twice"),
        ("1 2 3 4", "no answer 1"),
    ],
)
def test_what_is_no_ranking_is_told(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text, 4)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=9))
def test_every_ranking_can_be_typed(places):
    groups = ["=".join(LETTERS[at] for at, place in enumerate(places) if place == rank) for rank in sorted(set(places))]
    assert ranks_of(parse(" > ".join(groups), len(places))) == ranks_of(places)


def test_verdicts_skips_notes_and_the_way_back(typed):
    asked = [
        "x\n",
        "b>a=c>d\n",
        "/note 两个都 好",
        "/skip",
        "/skip 9",
        "/nope",
        "dcba",
        "/skip 1",
        "/back",
        "/skip 2 看不懂",
        "/exit",
        "abcd",
    ]
    session, shown = typed(*asked)
    first, second, third = session.queue[:3]
    assert [session.verdict(first).ranks[number] for number in session.shown(first)] == [2, 1, 2, 4]
    assert session.verdict(second).note == "两个都 好" and session.verdict(second).ranks
    assert (session.verdict(third).skip, session.verdict(third).note) == ("unclear_question", "看不懂")
    for told in (
        "no answer X",
        "/skip 3",
        "no such command: /nope",
        "2/7",
        "saved: B > A=C > D",
        "saved: 问题不清 / unclear question (看不懂)",
    ):
        assert told in shown
    assert session.num_done == 3 and "3/7 · 同一命令继续 / the same command goes on" in shown


def test_back_shows_what_was_said_and_takes_another_word(typed):
    session, shown = typed("abcd", "/back", "dcba")
    assert "said before: A > B > C > D" in shown
    task = session.queue[0]
    assert [session.verdict(task).ranks[number] for number in session.shown(task)] == [4, 3, 2, 1] and session.version(task) == 2


def test_a_note_waits_while_its_task_is_left(typed):
    session, _ = typed("/skip 1", "/note 想一想", "/back", "/skip 1", "/skip 1")
    assert [session.verdict(session.queue[at]).note for at in (0, 1)] == ["", "想一想"]


def test_a_reason_that_needs_words_asks_for_them(typed):
    session, shown = typed("/skip 4", "/skip 4 病人是我邻居")
    verdict = session.verdict(session.queue[0])
    assert "say why in a note" in shown and (verdict.skip, verdict.note) == ("other", "病人是我邻居")


def test_all_done_ends_and_the_next_time_too(typed):
    session, shown = typed(*["abcd"] * 7)
    assert session.num_done == 7 and "7/7 · 全部完成 / all done" in shown
    assert "7/7" in typed("abcd")[1] and typed()[0].num_done == 7


def test_systems_are_not_named(typed):
    _, shown = typed(*["abcd"] * 7)
    assert not any(name in shown for name in ("alpha", "beta", "gamma", "record"))


def test_texts_cannot_steer_the_terminal():
    assert harmless("a\x1b[2J\x07b\r\nc\x9bd") == "a\\u001b[2J\\u0007b\nc\\u009bd"
    assert "\u202e" not in harmless(HOSTILE) and "<script>" in harmless(HOSTILE)
    assert harmless("👨\u200d👩 好\t坏") == "👨\u200d👩 好\t坏"


def test_bytes_that_are_no_text(typed):
    session, shown = typed("\udcff\udcfe", "/note \udcff", "abcd")
    assert session.verdict(session.queue[0]).note == "?" and "no answer ?" in shown
