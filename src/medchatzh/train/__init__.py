"""Training: one loop (`loop`), one packer (`packing`), three stages (`pretrain`, `reward`, `sft`)."""
