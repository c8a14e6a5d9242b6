"""How well curation finds the faults that corpus.py planted.

    medchatzh curate benchmarks/curation/full.toml --set data.root=CORPUS --runs RUNS --workers 2
    python benchmarks/curation/quality.py CORPUS RUNS/full/curate-…

A fault counts as found where its record was dropped for the reason of that name; records that another rule dropped first are told apart
and count neither way. A copy counts as found where it, or its original, is dropped as a duplicate. Precision: the exact Jaccard
similarity of each dropped near duplicate and its keeper, worked out again by similarity.py from the texts that were written; below the
threshold is wrong.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from similarity import jaccard

DUPLICATES = ("exact_duplicate", "near_duplicate")
_KEEPER = re.compile(r"[^\s:]+:[0-9]+")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("curated", type=Path, help="the folder of a finished curate stage")
    parser.add_argument("--threshold", type=float, default=0.8, help="curate.duplicates.min_similarity of the run")
    options = parser.parse_args()
    labels = {label["id"]: label for label in lines(options.corpus / "labels.jsonl")}
    wanted = set(labels) | {label["of"] for label in labels.values() if "of" in label}
    rejects = {reject["id"]: reject for reject in lines(options.curated / "rejects.jsonl")}
    near = {identifier: _KEEPER.search(reject["detail"]) for identifier, reject in rejects.items() if reject["reason"] == "near_duplicate"}
    wanted |= {match[0] for match in near.values() if match} | set(near)
    texts = {identifier: text_of(reject["record"]) for identifier, reject in rejects.items() if identifier in wanted}
    num_kept = 0
    for name in ("medical", "general"):
        for record in lines(options.curated / f"{name}.jsonl"):
            num_kept += 1
            if record["id"] in wanted:
                texts[record["id"]] = text_of(record)
    print(f"# Quality on {num_kept + len(rejects):,} records ({len(labels):,} faults planted)\n")
    print(by_fault(labels, rejects))
    print(by_similarity(labels, rejects, options.threshold))
    print(precision(near, texts, options.threshold))
    print(list_numbers(labels, rejects, texts))
    print(sound(labels, rejects, num_kept))


def lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        yield from map(json.loads, file)


def text_of(record: dict[str, Any]) -> tuple[str, str]:
    """(question, answer) of a record as written."""
    question, answer = (turn["content"] for turn in record["turns"])
    return question, answer


def by_fault(labels: dict[str, Any], rejects: dict[str, Any]) -> str:
    """Recall by fault and kind among those that no other rule dropped before, and where the others went."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for identifier, label in labels.items():
        if label["fault"] not in ("list_numbers", "near_duplicate"):
            kinds = [f"{label['fault']}: {label['kind']}"] if "kind" in label else []
            for name in (label["fault"], *kinds):
                counts[name][fate(identifier, label, rejects)] += 1
    rows = ["| fault | planted | found | recall | else |", "|---|---|---|---|---|"]
    for name, found in sorted(counts.items()):
        right, missed = found["found"], found["kept"]
        elsewhere = Counter({reason: count for reason, count in found.items() if reason not in ("found", "kept")})
        rows.append(f"| {name} | {found.total():,} | {right:,} | {right / max(1, right + missed):.4f} | {told(elsewhere)} |")
    return "\n".join(rows) + "\n"


def fate(identifier: str, label: dict[str, Any], rejects: dict[str, Any]) -> str:
    """`found`, `kept`, or the other reason for which the record (or the original of a copy) was dropped."""
    wanted = DUPLICATES if label["fault"] in DUPLICATES else (label["fault"],)
    reasons = [rejects[one]["reason"] for one in (identifier, label.get("of")) if one in rejects]
    return "found" if any(reason in wanted for reason in reasons) else next(iter(reasons), "kept")


def by_similarity(labels: dict[str, Any], rejects: dict[str, Any], threshold: float) -> str:
    """Recall of planted near duplicates and near benchmark questions, by tenths of J, among those that no other rule dropped before."""
    rows = ["| planted, J | near duplicates | dropped | share | benchmark questions | dropped | share |", "|---|---|---|---|---|---|---|"]
    tenths: dict[str, Counter[int]] = defaultdict(Counter)
    for identifier, label in labels.items():
        if "jaccard" in label and (what := fate(identifier, label, rejects)) in ("found", "kept"):
            for place in (min(9, int(10 * label["jaccard"] + 1e-9)), *([10] if label["jaccard"] >= threshold else [])):
                tenths[label["fault"]][place] += 1
                tenths[label["fault"] + " found"][place] += what == "found"
    for place in range(11):
        cells = [f".{place} – {'1' if place == 9 else f'.{place + 1}'}" if place < 10 else f"**≥ {threshold}**"]
        for fault in ("near_duplicate", "in_benchmark"):
            total, found = tenths[fault][place], tenths[f"{fault} found"][place]
            cells += [f"{total:,}", f"{found:,}", f"{found / total:.4f}" if total else ""]
        if any(cells[column] != "0" for column in (1, 4)):
            rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def precision(near: dict[str, re.Match[str] | None], texts: dict[str, tuple[str, str]], threshold: float) -> str:
    wrong = [f"{identifier}: no keeper named" for identifier, match in near.items() if not match]
    for identifier, match in near.items():
        if match and match[0] not in texts:
            wrong.append(f"{identifier}: its keeper {match[0]} is no record")
        elif match and (similarity := jaccard("".join(texts[identifier]), "".join(texts[match[0]]))) < threshold:
            wrong.append(f"{identifier} and {match[0]}: J {similarity:.3f}")
    told_wrong = "".join(f"\n- {line}" for line in wrong[:20])
    share = 1 - len(wrong) / len(near) if near else 1.0
    return f"Near duplicates dropped: {len(near):,}; precision after exact Jaccard {share:.4f}{told_wrong}\n"


def list_numbers(labels: dict[str, Any], rejects: dict[str, Any], texts: dict[str, tuple[str, str]]) -> str:
    """The share of planted lists whose answer became, byte for byte, what it should."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for identifier, label in labels.items():
        if label["fault"] == "list_numbers" and identifier not in rejects:
            total[label["kind"]] += 1
            right[label["kind"]] += blake2b(texts[identifier][1].encode(), digest_size=8).hexdigest() == label["expected"]
    styles = ", ".join(f"`{style}` {right[style]}/{count}" for style, count in sorted(total.items()))
    return f"List numbers as expected: {right.total():,} of {total.total():,} ({right.total() / max(1, total.total()):.4f}): {styles}\n"


def sound(labels: dict[str, Any], rejects: dict[str, Any], num_kept: int) -> str:
    originals = {label["of"] for label in labels.values() if "of" in label}
    lost = Counter(reject["reason"] for identifier, reject in rejects.items() if identifier not in labels and identifier not in originals)
    total = num_kept + len(rejects) - len(labels)
    return f"Sound records dropped: {lost.total():,} of {total:,} ({lost.total() / total:.4%}): {told(lost)}"


def told(counts: Counter[str]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common())


if __name__ == "__main__":
    main()
