"""The same work in Data-Juicer, run by its own Python: `peer_data_juicer.py IN OUT WORKERS MODE`, IN/*.jsonl → OUT/kept.jsonl.

Both modes write what each operator drops: its tracer is on and told to write all, not a sample (of duplicates it writes one pair a
group, whatever the group's size), so length and personal data are operators of their own. MODE `documented` is the way its documentation
shows: an exact deduplicator, then MinHash. MODE `tuned` is the fastest one found that writes its reasons: turbo mode (off by default; no
batches of one), and, as for datatrove, MinHash alone for both kinds of duplicates. In its favour in both: batched rules, no cache files,
what a mapper changes is not traced.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from data_juicer.config import init_configs
from data_juicer.core.executor import DefaultExecutor
from data_juicer.ops.base_op import OPERATORS, Filter, Mapper
from data_juicer.utils.constant import Fields
from peer_rules import NUM_BANDS, NUM_PERMUTATIONS, ROWS_A_BAND, SHINGLE_CHARS, harmonise, is_long_enough, personal_data


class Rules(Filter):
    """A rule in batches."""

    _batched_op = True

    def is_sound(self, text: str, start: int) -> bool:
        """Whether a record is kept; its answer begins at `start`."""
        raise NotImplementedError

    def compute_stats_batched(self, samples: dict[str, Any]) -> dict[str, Any]:
        for text, start, stats in zip(samples[self.text_key], samples["answer_start"], samples[Fields.stats], strict=True):
            stats[self._name] = self.is_sound(text, start)
        return samples

    def process_batched(self, samples: dict[str, Any]) -> Any:
        return map(lambda stats: stats[self._name], samples[Fields.stats])


@OPERATORS.register_module("short_answer_filter")
class ShortAnswerFilter(Rules):
    def is_sound(self, text: str, start: int) -> bool:
        return is_long_enough(text[start:])


@OPERATORS.register_module("personal_data_filter")
class PersonalDataFilter(Rules):
    def is_sound(self, text: str, start: int) -> bool:
        return not personal_data(text)


@OPERATORS.register_module("list_numbers_mapper")
class ListNumbersMapper(Mapper):
    _batched_op = True

    def process_batched(self, samples: dict[str, Any]) -> dict[str, Any]:
        pairs = zip(samples[self.text_key], samples["answer_start"], strict=True)
        samples[self.text_key] = [text[:start] + harmonise(text[start:]) for text, start in pairs]
        return samples


def main() -> None:
    source, out, workers, mode = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    filters = ("short_answer_filter", "personal_data_filter")
    batched = "".join(f"  - {name}:\n      batch_size: 1000\n" for name in (*filters, "list_numbers_mapper"))
    exact = "" if mode == "tuned" else "  - document_deduplicator:\n      lowercase: true\n      ignore_non_character: true\n"
    out.mkdir(parents=True)
    recipe = out / "recipe.yaml"
    recipe.write_text(f"""
project_name: same_work
dataset_path: {source.resolve()}
export_path: {(out / "kept.jsonl").resolve()}
work_dir: {(out / "work").resolve()}
ds_cache_dir: {(out / "cache").resolve()}
np: {workers}
use_cache: false
turbo: {str(mode == "tuned").lower()}
open_tracer: true
op_list_to_trace: [{", ".join(filters)}, document_deduplicator, document_minhash_deduplicator]
trace_num: 1000000000
process:
{batched}{exact}  - document_minhash_deduplicator:
      tokenization: character
      window_size: {SHINGLE_CHARS}
      num_permutations: {NUM_PERMUTATIONS}
      num_bands: {NUM_BANDS}
      num_rows_per_band: {ROWS_A_BAND}
      ignore_pattern: '[\\W_]'
""")
    executor = DefaultExecutor(init_configs(["--config", str(recipe)]))
    executor.run()


if __name__ == "__main__":
    main()
