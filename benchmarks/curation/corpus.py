"""Make a corpus of medical questions and answers, any number of records up to tens of millions, with labelled faults planted in it.

    python benchmarks/curation/corpus.py --data FOLDER --out FOLDER [--records 200000] [--sentences 14] [--seed 1] [--workers 2]

FOLDER of the data is laid out as docs/data.md says; nothing of it is kept here. What is written, the same bytes for the same arguments:

    alpaca/*.jsonl, sharegpt/*.jsonl, table/*.csv   80, 10 and 10 % of the records
    labels.jsonl          one line a planted fault: {"id", "fault", "kind"?, "of"?, "jaccard"?, "expected"?}; other records are sound
    benchmark/medQA.test.txt                        questions in webMedQA's layout, some of which the corpus leaks

Records come in blocks of 1,000 with so many of each fault. A copy has its original in the same block or half the corpus away, so that
duplicates must be found across files. Block and seed are all that a record depends on: blocks are made in any order, in several processes.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import faults
import numpy as np
from faults import Text
from pieces import Pools, read_pools

BLOCK = 1000
BLOCKS_A_FILE = 50
FORMS = (("alpaca", "jsonl"), ("sharegpt", "jsonl"), ("table", "csv"))
PLANTED = {
    "short_answer": 10, "personal_data": 16, "list_numbers": 30, "refusal": 4, "cut_off": 4, "loop": 4, "advertising": 4, "in_benchmark": 8,
}  # fmt: skip
"""Records a block with a fault of their own. Copies come on top."""
NEAR_COPIES, FAR_COPIES = 10, 10
"""Records a block that copy one of the same block, and one of half the corpus earlier; half of each are exact, half near duplicates."""
MAX_BENCHMARK = 700
_COURTESY = ("您好，", "你好，", "您好！", "这种情况，", "根据您的描述，")
_CLOSINGS = ("祝您早日康复。", "希望对您有所帮助。", "祝您健康。", "以上供您参考。", "如有不适请及时就医。")
_WHO = ("我{}岁，", "患者{}岁，", "我父亲{}岁，", "我母亲{}岁，", "老人{}岁，", "我爱人{}岁，", "朋友{}岁，", "女，{}岁，", "男，{}岁，")
_SINCE = ("", "", "大概有{}天了，", "持续{}个月，", "反复{}周，", "已经{}天没有好转，")


class Layout(NamedTuple):
    """What the bytes depend on, besides the data."""

    num_blocks: int
    sentences: int
    """On average an answer; a record has from half to one and a half times as many."""
    seed: int

    @property
    def starts(self) -> tuple[int, int, int]:
        """The first block of each form."""
        return 0, self.num_blocks * 8 // 10, self.num_blocks * 9 // 10

    def form(self, block: int) -> int:
        return sum(block >= start for start in self.starts) - 1

    def identifier(self, block: int, place: int) -> str:
        """The id that ingest gives a record: source and row."""
        form = self.form(block)
        return f"{FORMS[form][0]}:{(block - self.starts[form]) * BLOCK + place + 1}"


class Writer:
    """Makes the blocks of a layout from pools of pieces."""

    def __init__(self, pools: Pools, layout: Layout) -> None:
        self.layout = layout
        lists = [[pool[kind] for pool in pools.pools] for kind in range(1, 5)]
        flat = [[piece for pool in one for piece in pool] for one in lists]
        self._pieces = flat[0], flat[1], flat[2] + flat[3]
        self._sizes = [np.array([len(pool) for pool in one]) for one in lists]
        self._starts = [np.array([0, *accumulate(map(len, one))][:-1]) for one in lists]
        self._starts[3] += len(flat[2])
        self._weights = self._sizes[2] / self._sizes[2].sum()
        self._who = [form.format(age) for form in _WHO for age in range(18, 86)]
        self._since = [form.format(count) for form in _SINCE for count in range(2, 20)]
        self.benchmark = pools.questions[:: max(1, len(pools.questions) // MAX_BENCHMARK)][:MAX_BENCHMARK]
        self.references = pools.answers

    def sound(self, rng: np.random.Generator, count: int) -> list[Text]:
        """Records without faults: everything is drawn for all at once, then joined one by one."""
        low, high = max(faults.MIN_SENTENCES, self.layout.sentences // 2), self.layout.sentences * 3 // 2
        which = rng.choice(len(self._weights), size=count, p=self._weights)
        lengths = rng.integers(low, high + 1, size=count).tolist()
        drawn = [self._draw(kind, which, rng.random((count, 1 if kind < 2 else high))) for kind in range(4)]
        heads, asks, pieces = self._pieces
        rows = np.stack([drawn[2], drawn[3]], axis=2).reshape(count, 2 * high).tolist()
        who = rng.integers(len(self._who), size=count).tolist()
        since = rng.integers(len(self._since), size=count).tolist()
        manner = rng.integers(6 * len(_COURTESY), size=count).tolist()
        texts = []
        for number, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            complaint, asked = heads[drawn[0][number, 0]], asks[drawn[1][number, 0]]
            question = f"{self._who[who[number]]}{complaint}，{self._since[since[number]]}{asked}？"
            answer = "".join([pieces[place] for place in row[: 2 * length]])
            if manner[number] < len(_COURTESY):
                answer = f"{_COURTESY[manner[number]]}{answer}{_CLOSINGS[number % len(_CLOSINGS)]}"
            texts.append(Text(question, answer))
        return texts

    def _draw(self, kind: int, which: np.ndarray, shares: np.ndarray) -> np.ndarray:
        return self._starts[kind][which][:, None] + (shares * self._sizes[kind][which][:, None]).astype(np.int64)

    def block(self, number: int) -> tuple[list[Text], list[dict[str, Any]]]:
        """The records of a block and the labels of those with a fault."""
        rng = np.random.default_rng([self.layout.seed, number, 0])
        texts = self.sound(rng, BLOCK)
        labels: list[dict[str, Any]] = []
        first, second = self._places(number)
        originals = self._originals(number)
        for place, original in zip(first, originals, strict=False):
            texts[place] = original

        def plant(place: int, fault: str, planted: faults.Planted) -> None:
            texts[place] = Text(*planted[:2])
            labels.append({"id": self.layout.identifier(number, place), "fault": fault, **planted[2]})

        far = self.layout.num_blocks // 2
        sources = [(number, originals, first, range(NEAR_COPIES))]
        if number >= far:
            sources.append((number - far, self._originals(number - far), self._places(number - far)[0], range(NEAR_COPIES, len(originals))))
        for block, copied, places, chosen in sources:
            for place in chosen:
                of, target = {"of": self.layout.identifier(block, places[place])}, second[place]
                if place % 2:
                    question, answer, more = faults.exact_duplicate(copied[place], rng)
                    plant(target, "exact_duplicate", (question, answer, of | more))
                else:
                    question, answer, more = faults.near_duplicate(copied[place], rng, texts[target])
                    plant(target, "near_duplicate", (question, answer, of | more))
        free = iter([*first[len(originals) :], *second[len(originals) :]])
        for fault, count in PLANTED.items():
            for place in (next(free) for _ in range(count)):
                plant(place, fault, self._planted(fault, texts[place], rng))
        return texts, labels

    def _planted(self, fault: str, text: Text, rng: np.random.Generator) -> faults.Planted:
        if fault != "in_benchmark":
            planted: faults.Planted = getattr(faults, fault)(text, rng)
            return planted
        which = int(rng.integers(len(self.benchmark)))
        return faults.contaminated(text, rng, self.benchmark[which][1], self.references[which % len(self.references)])

    def _originals(self, number: int) -> list[Text]:
        return self.sound(np.random.default_rng([self.layout.seed, number, 1]), NEAR_COPIES + FAR_COPIES)

    def _places(self, number: int) -> tuple[list[int], list[int]]:
        """The places of a block in two halves, shuffled: originals stand in the first, copies in the second."""
        rng = np.random.default_rng([self.layout.seed, number, 2])
        half = BLOCK // 2
        return rng.permutation(half).tolist(), (half + rng.permutation(half)).tolist()


def write_file(writer: Writer, out: Path, form: int, blocks: Sequence[int]) -> tuple[int, Path]:
    """One file of the corpus beside its labels; (bytes, file of labels)."""
    name, suffix = FORMS[form]
    path = out / name / f"{(blocks[0] - writer.layout.starts[form]) // BLOCKS_A_FILE:05d}.{suffix}"
    labels_path = out / "labels" / f"{blocks[0]:07d}.jsonl"
    with path.open("w", encoding="utf-8", newline="") as file, labels_path.open("w", encoding="utf-8") as labels_file:
        if suffix == "csv":
            file.write("question,answer\n")
        for block in blocks:
            texts, labels = writer.block(block)
            file.writelines([_WRITTEN[form](*text) for text in texts])
            labels_file.writelines([json.dumps(label, ensure_ascii=False) + "\n" for label in labels])
    return path.stat().st_size, labels_path


# No piece and no planted text holds a quotation mark or a backslash: only line ends need escapes (json.dumps costs three times as much).
_WRITTEN = (
    lambda question, answer: '{{"instruction": "{}", "input": "", "output": "{}"}}\n'.format(question, answer.replace("\n", "\\n")),
    lambda question, answer: '{{"conversations": [{{"from": "human", "value": "{}"}}, {{"from": "gpt", "value": "{}"}}]}}\n'.format(
        question, answer.replace("\n", "\\n")
    ),
    lambda question, answer: f'"{question}","{answer}"\n',
)


def write_benchmark(writer: Writer, path: Path) -> None:
    """id, label, category, question, answer by tabs; one answer of its own and four of other questions each, as webMedQA has them."""
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
        for number, (department, question) in enumerate(writer.benchmark):
            for label in range(5):
                answer = writer.references[(number + label * 97) % len(writer.references)]
                lines.writerow([29000000 + number, int(label == 0), department, _one_line(question), _one_line(answer)])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def make(data: Path, out: Path, records: int, sentences: int, seed: int, workers: int) -> int:
    """Write a corpus into the new folder `out`; the number of bytes. ValueError where there are too few records for all forms."""
    if records < 10 * BLOCK or records % BLOCK:
        raise ValueError(f"--records {records}: write a multiple of {BLOCK}, {10 * BLOCK} or more")
    out.mkdir(parents=True)
    for name in (*(name for name, _ in FORMS), "labels"):
        (out / name).mkdir()
    layout = Layout(records // BLOCK, sentences, seed)
    writer = Writer(read_pools(data), layout)
    write_benchmark(writer, out / "benchmark/medQA.test.txt")
    ends = (*layout.starts[1:], layout.num_blocks)
    jobs = [
        (writer, out, form, range(start, min(start + BLOCKS_A_FILE, end)))
        for form, (first, end) in enumerate(zip(layout.starts, ends, strict=True))
        for start in range(first, end, BLOCKS_A_FILE)
    ]
    _JOBS.extend(jobs)
    with multiprocessing.get_context("fork").Pool(workers) as pool:  # forked, so that the pools of pieces are not sent with every job
        made = pool.map(_work, range(len(jobs)), chunksize=1)
    _JOBS.clear()
    with (out / "labels.jsonl").open("wb") as file:
        for _, labels in made:
            file.write(labels.read_bytes())
    shutil.rmtree(out / "labels")
    return sum(size for size, _ in made)


_JOBS: list[tuple[Writer, Path, int, Sequence[int]]] = []


def _work(number: int) -> tuple[int, Path]:
    return write_file(*_JOBS[number])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MEDCHATZH_DATA"), help="default: $MEDCHATZH_DATA")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--sentences", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if not options.data:
        parser.error("--data (or $MEDCHATZH_DATA): the folder with medical/toyhom and the other sources")
    started = time.perf_counter()
    size = make(options.data, options.out, options.records, options.sentences, options.seed, options.workers)
    seconds = time.perf_counter() - started
    print(f"{options.records:,} records, {size / 1e6:,.0f} MB, {size / options.records:,.0f} bytes a record, {seconds:.1f} s")


if __name__ == "__main__":
    main()
