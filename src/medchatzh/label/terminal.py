"""Ranking in the terminal: the answers stand under letters, and a line such as `b > a=c > d` ranks them."""

from __future__ import annotations

import io
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from medchatzh.label.session import LETTERS, Session
from medchatzh.label.tasks import Task
from medchatzh.label.verdicts import SKIPS, Skip

HELP = """最好的写在前面，= 表示并列 / best first, = for ties:  b > a=c > d   （也可写 / or:  ba=cd）
/skip [1-4] [备注] 跳过 / skip   /note 备注 / a note   /back 上一题 / previous   /help   /exit 离开，已保存 / leave, all is saved
"""
_ROLES = {"system": "系统 / system", "user": "问 / Q", "assistant": "答 / A"}


def rank(session: Session, lines: Iterator[str], write: Callable[[str], object]) -> None:
    """Ask for a verdict on each task until all have one, the lines end, or /exit."""
    write(HELP)
    at = session.next()
    notes: dict[str, str] = {}
    while at is not None:
        turned = _ask(session, at, notes, lines, write)
        if turned is None:
            break
        at = session.next(at) if turned > 0 else max(at - 1, 0)
    done, total = session.num_done, len(session.queue)
    told = "全部完成 / all done" if done == total else "同一命令继续 / the same command goes on"
    write(f"\n{done}/{total} · {told}\n")


def _ask(session: Session, at: int, notes: dict[str, str], lines: Iterator[str], write: Callable[[str], object]) -> int | None:
    """1 when there is a verdict, -1 for the task before, None to leave. `notes` (task id → note) wait for a verdict."""
    task = session.queue[at]
    write(_shown(session, at))
    start = time.monotonic()
    while True:
        write("› ")
        line = next(lines, None)
        if line is None:
            return None
        command, _, rest = _printable(line).strip().partition(" ")
        command, rest = unicodedata.normalize("NFKC", command).lower(), rest.strip()
        if command in ("/exit", "/back"):
            return None if command == "/exit" else -1
        if command == "/note":
            notes[task.id] = rest
            write("已记下 / noted\n")
            continue
        if not command or command == "/help":
            write(HELP)
            continue
        note = notes.get(task.id, "")
        try:
            if command == "/skip":
                skip, said = _reason(rest)
                session.save(task, [], skip=skip, note=said or note, seconds=time.monotonic() - start)
            elif command.startswith("/"):
                raise ValueError(f"没有这个命令 / no such command: {command}")
            else:
                places = parse(_printable(line), len(task.candidates))
                session.save(task, places, note=note, seconds=time.monotonic() - start)
        except ValueError as error:
            write(f"{error}\n")
            continue
        write(f"已保存 / saved: {_said(session, task)}\n")
        return 1


def parse(text: str, num_answers: int) -> list[int]:
    """`b > a=c > d`, also `b a=c d` or `ba=cd` → the place of A, B, C …; full-width signs and capitals will do. ValueError says what is
    wrong."""
    folded = unicodedata.normalize("NFKC", text).upper()
    places: dict[str, int] = {}
    known = LETTERS[:num_answers]
    is_tied = False
    for sign in folded:
        if sign == "=":
            is_tied = True
        elif sign.isspace() or sign in ">》〉,、":
            continue
        elif sign not in known:
            raise ValueError(f"没有回答 {sign}，有 {' '.join(known)} / no answer {sign}; there are {' '.join(known)}")
        elif sign in places:
            raise ValueError(f"{sign} 写了两次 / {sign} is there twice")
        else:
            places[sign] = max(places.values(), default=0) + (not is_tied or not places)
            is_tied = False
    if missing := [letter for letter in known if letter not in places]:
        raise ValueError(f"还缺 / still missing: {' '.join(missing)}")
    return [places[letter] for letter in known]


def _reason(text: str) -> tuple[Skip, str]:
    number, _, note = text.partition(" ")
    reasons = list(SKIPS)
    if not (number.isdecimal() and 1 <= int(number) <= len(reasons)):
        listed = "\n".join(f"  /skip {place}  {told}" for place, told in enumerate(SKIPS.values(), 1))
        raise ValueError(f"为什么跳过？ / why?\n{listed}")
    return reasons[int(number) - 1], note.strip()


def _shown(session: Session, at: int) -> str:
    task = session.queue[at]
    head = f"{at + 1}/{len(session.queue)} · 已完成 / done {session.num_done}" + (f" · {task.category}" if task.category else "")
    parts = [f"\n━━━━━━ {head} ━━━━━━\n"]
    parts += [f"{_ROLES[turn.role]}  {harmless(turn.content)}\n" for turn in task.prompt]
    parts += [
        f"\n── {letter} ──\n{harmless(task.candidates[number].text)}\n"
        for letter, number in zip(LETTERS, session.shown(task), strict=False)
    ]
    if session.verdict(task):
        parts.append(f"\n已答 / said before: {_said(session, task)}\n")
    return "".join([*parts, "\n"])


def _said(session: Session, task: Task) -> str:
    """The task's verdict, as it would be typed."""
    verdict = session.verdict(task)
    assert verdict is not None
    groups: dict[int, list[str]] = {}
    if verdict.ranks:
        for letter, number in zip(LETTERS, session.shown(task), strict=False):
            groups.setdefault(verdict.ranks[number], []).append(letter)
    ranking = " > ".join("=".join(groups[rank]) for rank in sorted(groups))
    return (ranking or SKIPS[verdict.skip]) + (f" ({harmless(verdict.note)})" if verdict.note else "")


def harmless(text: str) -> str:
    """Text that cannot steer a terminal: control and direction characters are shown as their codes."""

    def seen(one: str) -> str:
        if one in "\n\t\u200d" or unicodedata.category(one) not in ("Cc", "Cf", "Cs"):  # U+200D joins emoji
            return one
        return f"\\u{ord(one):04x}"

    return "".join(map(seen, text.replace("\r\n", "\n")))


def _printable(text: str) -> str:
    """Without the lone surrogates that Python makes of bytes that are no UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def run(folder: Path, labeller: str) -> None:
    """Rank on standard input and output."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # a terminal in GBK must not end the session

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    with closing(Session(folder, labeller)) as session:
        if sys.stdin.isatty():
            import readline  # noqa: F401  (gives input() line editing)
        rank(session, _typed() if sys.stdin.isatty() else iter(sys.stdin), write)


def _typed() -> Iterator[str]:
    while True:
        try:
            yield input()
        except (EOFError, KeyboardInterrupt):
            return
