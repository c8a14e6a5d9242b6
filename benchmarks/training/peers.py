"""HF Trainer and TRL on the examples and the checkpoint that `speed.py` made, in an environment of their own: `.bench/training`.

One JSON line: CPU-seconds, examples and steps of the measured part.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments


class Clock(TrainerCallback):
    """CPU time from the end of step `warm` to that of the last one."""

    def __init__(self, warm: int) -> None:
        self.warm, self.started, self.used = warm, 0.0, 0.0

    def on_step_end(self, arguments, state, control, **_):
        if state.global_step == self.warm:
            self.started = time.process_time()
        self.used = time.process_time() - self.started


def main() -> None:
    way, folder, rows, row_tokens, steps, warm, threads = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
    torch.set_num_threads(threads)
    stored = np.load(folder / "examples.npz")
    bounds = list(zip(stored["offsets"], stored["offsets"][1:], strict=False))
    ids = [stored["input_ids"][a:b].tolist() for a, b in bounds]
    labels = [stored["labels"][a:b].tolist() for a, b in bounds]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    clock = Clock(warm)
    shared = dict(
        output_dir=str(folder / "peer"),
        per_device_train_batch_size=rows,
        max_steps=steps,
        learning_rate=1e-4,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        seed=0,
    )
    if way.startswith("hf"):
        data = Dataset.from_dict({"input_ids": ids, "labels": labels, "attention_mask": [[1] * len(each) for each in ids]})
        collator = DataCollatorForSeq2Seq(tokenizer, padding="longest", label_pad_token_id=-100)
        arguments = TrainingArguments(**shared, bf16=way == "hf-bf16", lr_scheduler_type="constant")
        seen: list[int] = []

        def collate(features):
            seen.append(sum(len(feature["input_ids"]) for feature in features))
            return collator(features)

        Trainer(model=model, args=arguments, train_dataset=data, data_collator=collate, callbacks=[clock]).train()
        tokens = sum(seen[warm:steps])
    else:
        from trl import SFTConfig, SFTTrainer

        data = Dataset.from_dict({"input_ids": ids, "labels": labels})
        wrapped = {"packing_strategy": "wrapped", "gradient_checkpointing": False} if way == "trl-wrapped" else {}
        arguments = SFTConfig(**shared, packing=True, max_length=row_tokens, bf16=True, lr_scheduler_type="constant", **wrapped)
        trainer = SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer, callbacks=[clock])
        collator, seen = trainer.data_collator, []

        def collate(features):
            seen.append(sum(len(feature["input_ids"]) for feature in features))
            return collator(features)

        trainer.data_collator = collate
        trainer.train()
        tokens = sum(seen[warm:steps])
    print(json.dumps({"way": way, "tokens": tokens, "cpu_s": clock.used, "peak_mb": _peak_mb()}))


def _peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
