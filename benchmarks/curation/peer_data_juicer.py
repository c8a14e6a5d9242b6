"""The same work in Data-Juicer, run by its own Python: `peer_data_juicer.py IN OUT WORKERS [tuned]`, IN/*.jsonl → OUT/kept.jsonl.

In its favour: the rules in one batched operator, no cache files, no tracer (it would write samples of what is dropped, not all), so that
no reasons are written. Otherwise its defaults, with one deduplicator for exact and one for near duplicates. `tuned` is the fastest way
found: turbo mode (off by default; no batches of one) and, as for datatrove, MinHash alone for both kinds of duplicates.
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


@OPERATORS.register_module("medical_rules_filter")
class MedicalRulesFilter(Filter):
    """Length and personal data in one operator: cheaper than two here, as each costs a pass over the data set."""

    _batched_op = True

    def compute_stats_batched(self, samples: dict[str, Any]) -> dict[str, Any]:
        for text, start, stats in zip(samples[self.text_key], samples["answer_start"], samples[Fields.stats], strict=True):
            stats["is_sound"] = is_long_enough(text[start:]) and not personal_data(text)
        return samples

    def process_batched(self, samples: dict[str, Any]) -> Any:
        return map(lambda stats: stats["is_sound"], samples[Fields.stats])


@OPERATORS.register_module("list_numbers_mapper")
class ListNumbersMapper(Mapper):
    _batched_op = True

    def process_batched(self, samples: dict[str, Any]) -> dict[str, Any]:
        pairs = zip(samples[self.text_key], samples["answer_start"], strict=True)
        samples[self.text_key] = [text[:start] + harmonise(text[start:]) for text, start in pairs]
        return samples


def main() -> None:
    source, out, workers, is_tuned = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] == ["tuned"]
    exact = "" if is_tuned else "  - document_deduplicator:\n      lowercase: true\n      ignore_non_character: true\n"
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
turbo: {str(is_tuned).lower()}
open_tracer: false
process:
  - medical_rules_filter:
      batch_size: 1000
  - list_numbers_mapper:
      batch_size: 1000
{exact}  - document_minhash_deduplicator:
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
