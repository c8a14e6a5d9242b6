"""Every finding in the real medical text, each read and judged: `tests/golden/privacy_findings.csv` holds where it stands and the verdict.

The list never holds what was found. A finding that is not in it fails the test: run `python tests/curate/test_curate_privacy_judged.py`
to add it as `unjudged`, read it (the command prints where), and write `right` or `wrong`.
"""

import csv
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from medchatzh.curate.privacy import DEFAULT_KINDS, KINDS, gate, opened, search

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "privacy_findings.csv"
MAX_WRONG_SHARE = 1 / 10_000
"""Wrong findings for each record, of all kinds together."""
MAX_GATED_SHARE = 0.03


class Place(NamedTuple):
    """A finding: characters start to end of a record (a line, or an item of a JSON file, its strings joined by line ends)."""

    record: str
    kind: str
    start: int
    end: int


def records(root: Path) -> Iterator[tuple[str, str]]:
    """(file:line or file[item] or archive!member, text) of everything in the medical folders."""
    for folder in ("medical", "evaluation"):
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.suffix == ".zip":
                with zipfile.ZipFile(path) as archive:
                    for member in sorted(archive.namelist()):
                        if not member.endswith("/") and "__MACOSX" not in member:
                            yield from _parts(f"{name}!{member}", archive.read(member))
            elif path.is_file():
                yield from _parts(name, path.read_bytes())


def _parts(name: str, raw: bytes) -> Iterator[tuple[str, str]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("gb18030", "replace")
    whole = _json(text)
    if isinstance(whole, list) and "!" not in name:
        yield from ((f"{name}[{number}]", "\n".join(_strings(item))) for number, item in enumerate(whole))
    elif whole is not None:
        yield name, "\n".join(_strings(whole))
    else:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield f"{name}:{number}", "\n".join(_strings(_json(line) or line))


def _json(text: str) -> Any:
    try:
        return json.loads(text) if text[:1] in ("{", "[") else None
    except ValueError:
        return None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


@pytest.fixture(scope="module")
def texts(shared_data: Path) -> list[tuple[str, str]]:
    return list(records(shared_data))


@pytest.fixture(scope="module")
def found(texts: list[tuple[str, str]]) -> dict[Place, str]:
    return findings(texts)


def findings(texts: list[tuple[str, str]]) -> dict[Place, str]:
    """Every finding of any kind, looked for without the gate → the text around it."""
    return {
        Place(name, found.kind, found.start, found.end): text[max(0, found.start - 20) : found.end + 12]
        for name, text in texts
        for found in search(text, KINDS)
    }


def judged() -> dict[Place, str]:
    with GOLDEN.open(encoding="utf-8", newline="") as file:
        return {Place(row["record"], row["kind"], int(row["start"]), int(row["end"])): row["verdict"] for row in csv.DictReader(file)}


def test_every_finding_in_real_text_is_judged_and_nearly_all_are_right(texts: list[tuple[str, str]], found: dict[Place, str]) -> None:
    verdicts = judged()
    assert set(verdicts.values()) <= {"right", "wrong"}
    assert sorted(found.keys() - verdicts.keys()) == []
    assert sorted(verdicts.keys() - found.keys()) == []  # nothing that was found is lost
    wrong = Counter(place.kind for place in found if verdicts[place] == "wrong")
    assert wrong.total() <= MAX_WRONG_SHARE * len(texts), wrong


def test_the_gate_loses_nothing_and_passes_few_real_records(texts: list[tuple[str, str]], found: dict[Place, str]) -> None:
    passed = opened([text for _, text in texts], KINDS)
    assert {place.record for place in found} <= {name for (name, _), passes in zip(texts, passed, strict=True) if passes}
    assert opened([text for _, text in texts], DEFAULT_KINDS).mean() < MAX_GATED_SHARE
    sample = range(0, len(texts), 37)
    assert [bool(passed[place]) for place in sample] == [gate(texts[place][1], KINDS) for place in sample]


if __name__ == "__main__":
    import os

    root = Path(os.environ.get("MEDCHATZH_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    known, around = judged() if GOLDEN.exists() else {}, findings(list(records(root)))
    GOLDEN.parent.mkdir(exist_ok=True)
    with GOLDEN.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*Place._fields, "verdict"))
        for place, text in sorted(around.items()):
            writer.writerow((*place, known.get(place, "unjudged")))
            if place not in known:
                print(*place, text.replace("\n", " "))
