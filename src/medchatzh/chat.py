"""Chat in the terminal with a trained checkpoint: several turns, streamed."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from medchatzh.models.decoding.engine import Decoding, Engine
from medchatzh.recipe import Settings
from medchatzh.records import Turn

NOTICE = "本模型仅供研究，回答可能有误，不能代替医生诊治。急症请拨打 120。 / For research only; not medical advice."
HELP = "输入问题后回车；/new 新对话，/exit 退出。 / Type a question; /new starts afresh, /exit leaves."


class Config(Settings, frozen=True, kw_only=True):
    decoding: Decoding = Decoding(max_new_tokens=256, do_sample=False)
    system: str = ""
    """A system turn put before every conversation; most of our checkpoints are trained without."""


def conversation(engine: Engine, config: Config, lines: Iterator[str], write: Callable[[str], object]) -> None:
    """Answer line by line, keeping the turns; a question that cannot be answered is told so. Ends with `lines` or at /exit."""
    start = [Turn("system", config.system)] if config.system else []
    turns = list(start)
    for line in lines:
        question = _printable(line).strip()
        if question == "/exit":
            return
        if question == "/new":
            turns = list(start)
            write("（新对话 / new conversation）\n")
            continue
        if not question:
            continue
        asked = [*turns, Turn("user", question)]
        answer = ""
        try:
            ids, num_left_out = engine.prompt(asked, config.decoding)
            if num_left_out:
                write(f"（前 {num_left_out} 轮超出上下文，已略去 / the first {num_left_out} exchanges no longer fit）\n")
            with closing(engine.stream(ids, config.decoding)) as pieces:
                for piece in pieces:
                    answer += piece
                    write(piece)
        except ValueError as error:
            write(f"（{error}）\n")
            continue
        except KeyboardInterrupt:
            write(" ■")  # a stopped answer stays in the history as far as it came
        write("\n")
        turns = [*asked, Turn("assistant", answer)]


def run(checkpoint: Path, config: Config, question: str = "", threads: int = 0) -> None:
    """Chat on standard input and output; with `question`, one exchange and return."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # a terminal in GBK must not end the conversation
    engine = Engine(checkpoint, threads)

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    if question:
        system = [Turn("system", config.system)] if config.system else []
        asked = [*system, Turn("user", _printable(question))]
        ids, _ = engine.prompt(asked, config.decoding)  # first of all: too long a question is an error here
        write(f"问 / Q  {asked[-1].content}\n答 / A  ")
        for piece in engine.stream(ids, config.decoding):
            write(piece)
        write("\n")
        return
    terminal = sys.stdin.isatty()
    if terminal:
        import readline  # noqa: F401  (gives input() line editing)

        print(f"{NOTICE}\n{HELP}\n")
    conversation(engine, config, _typed() if terminal else iter(sys.stdin), write)


def _printable(text: str) -> str:
    """Without the lone surrogates that Python makes of bytes that are no UTF-8; tokenizers refuse them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _typed() -> Iterator[str]:
    while True:
        try:
            yield input("问 › ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
