"""Answers by what was asked: one append-only file a model, which outlives the run. What was paid for is not asked again."""

from __future__ import annotations

import fcntl
import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from medchatzh.models.decoding.engine import TOO_LONG
from medchatzh.models.served.wire import Answer, Endpoint, Request, encode
from medchatzh.run import Progress

Keep = Callable[[int, Answer], None]
"""Takes an answer, with the number of what it answers."""

_to_line = msgspec.json.Encoder().encode
_from_line = msgspec.json.Decoder(tuple[str, Answer]).decode  # a line is a key and its answer


def key(endpoint: Endpoint, request: Request) -> str:
    """Stands for address, model, prompt, decoding and seed: the request as it is sent. ValueError where it cannot be sent."""
    url, body = encode(endpoint, request)
    return hashlib.blake2b(url.encode() + b"\n" + body, digest_size=16).hexdigest()


def answer_all(endpoint: Endpoint, requests: Sequence[Request], cache: Path, label: str) -> list[Answer]:
    """The answers in the order of the requests: those that the folder `cache` knows, and the others asked for; equal requests once.

    Each answer is on disk before another request takes its place: whatever ends the process, at most `max_concurrency` answers are lost.
    Where all is known no key is needed.
    """

    def ask(missing: Sequence[int], keep: Keep) -> None:
        from medchatzh.models.served.endpoint import Client  # brings TLS, which reading the cache can do without

        Client(endpoint).ask_all([requests[number] for number in missing], keep)

    answers = remembered(cache / _file_name(endpoint), [key(endpoint, request) for request in requests], ask, label)
    if answers and all(answer.finish == TOO_LONG for answer in answers):
        raise ValueError(f"{endpoint.base_url}: {endpoint.model} has no room for any of {len(answers)} prompts: lower max_tokens")
    return answers


def remembered(path: Path, keys: Sequence[str], ask: Callable[[Sequence[int], Keep], None], label: str) -> list[Answer]:
    """The answers in the order of the keys: those that an append-only file knows, and the others from `ask`, each on disk as it comes.

    `ask` is given the places of missing keys, equal ones once, and hands over each answer with its number among those. One process at a
    time asks, so that the limits of a server hold and nothing is asked twice; another waits.
    """
    known, _ = _read(path)
    if not known.keys() >= set(keys):
        with _opened(path) as file:
            known, num_whole_bytes = _read(path)  # another process may have asked while this one waited
            file.truncate(num_whole_bytes)
            places = {each: number for number, each in enumerate(keys) if each not in known}
            names = list(places)

            def keep(number: int, answer: Answer) -> None:
                # A model with more room may take the question: that it is too long is told at no cost, and not kept.
                if answer.finish != TOO_LONG:
                    file.write(_to_line((names[number], answer)) + b"\n")
                known[names[number]] = answer
                progress.add()

            num_wanted = len(set(keys))
            with Progress(label, total=num_wanted, unit="answers", initial=num_wanted - len(names)) as progress:
                ask(list(places.values()), keep)
    return [known[each] for each in keys]


def _file_name(endpoint: Endpoint) -> str:
    """Readable, and another one for another address or model."""
    digest = hashlib.sha256(f"{endpoint.base_url} {endpoint.model}".encode()).hexdigest()[:8]
    return f"answers-{re.sub(r'[^A-Za-z0-9.-]+', '_', endpoint.model)[:60]}-{digest}.jsonl"


def _read(path: Path) -> tuple[dict[str, Answer], int]:
    """(key → answer, bytes of the whole lines). A line without its end is being written, or was torn by a kill: it is not read."""
    known: dict[str, Answer] = {}
    num_bytes = 0
    if not path.exists():
        return known, num_bytes
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                name, answer = _from_line(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ValueError(f"{path}:{number}: not a cached answer: {error}; delete that line, and it is asked again") from None
            known[name] = answer
            num_bytes += len(line)
    return known, num_bytes


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file to append to, unbuffered, for this process alone. The kernel frees the lock of a process that dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"medchatzh: {path.name}: waiting for another process that asks this model", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file
