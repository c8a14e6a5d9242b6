"""The same work in datatrove, run by its own Python: `peer_datatrove.py IN OUT WORKERS` reads IN/*.jsonl, writes OUT/{kept,dropped}.

Chosen in datatrove's favour: 32-bit xxhash, no compression, one pass for reading, rules and signatures together; its MinHash also finds
the exact duplicates. Dropped records are written with a reason, which names no keeper.
"""

from __future__ import annotations

import sys
from pathlib import Path

from datatrove.data import Document, DocumentsPipeline
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.word_tokenizers import WordTokenizer
from peer_rules import NUM_BANDS, ROWS_A_BAND, SHINGLE_CHARS, harmonise, is_long_enough, personal_data


class Characters(WordTokenizer):
    """Shingles of characters: a word is a character, white space (which punctuation becomes) is none."""

    def word_tokenize(self, text: str) -> list[str]:
        return list(text.replace(" ", ""))

    def sent_tokenize(self, text: str) -> list[str]:
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


class ShortAnswer(BaseFilter):
    name = "short answer"

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        return is_long_enough(doc.text[doc.metadata["answer_start"] :]) or (False, "short_answer")


class PersonalData(BaseFilter):
    name = "personal data"

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        kind = personal_data(doc.text)
        return (False, f"personal_data:{kind}") if kind else True


class ListNumbers(PipelineStep):
    name = "list numbers"
    type = "FORMAT"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        for doc in data:
            start = doc.metadata["answer_start"]
            doc.text = doc.text[:start] + harmonise(doc.text[start:])
            yield doc


def main() -> None:
    source, out, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    tasks = len(list(source.glob("*.jsonl")))
    config = MinhashConfig(
        n_grams=SHINGLE_CHARS, num_buckets=NUM_BANDS, hashes_per_bucket=ROWS_A_BAND, hash_config=HashConfig(precision=32, hash_fc="xxhash")
    )
    work = out / "work"

    def dropped(name: str) -> JsonlWriter:
        return JsonlWriter(str(out / "dropped" / name), compression=None)

    stages = [
        (
            [
                JsonlReader(str(source), compression=None),
                ShortAnswer(dropped("length")),
                PersonalData(dropped("personal")),
                ListNumbers(),
                JsonlWriter(str(work / "clean"), compression=None),
                MinhashDedupSignature(str(work / "signatures"), config, language=Characters()),
            ],
            tasks,
            workers,
        ),
        ([MinhashDedupBuckets(str(work / "signatures"), str(work / "buckets"), config=config)], NUM_BANDS, workers),
        ([MinhashDedupCluster(str(work / "buckets"), str(work / "remove"), config=config)], 1, 1),
        (
            [
                JsonlReader(str(work / "clean"), compression=None),
                MinhashDedupFilter(str(work / "remove"), exclusion_writer=dropped("duplicates")),
                JsonlWriter(str(out / "kept"), compression=None),
            ],
            tasks,
            workers,
        ),
    ]
    for number, (pipeline, num_tasks, num_workers) in enumerate(stages):
        LocalPipelineExecutor(pipeline, tasks=num_tasks, workers=num_workers, logging_dir=str(work / f"logs{number}")).run()


if __name__ == "__main__":
    main()
