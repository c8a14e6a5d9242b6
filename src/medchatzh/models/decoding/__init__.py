"""Batched decoding of a checkpoint: requests join and leave slots, each answer as if it were decoded alone. `engine` is the way in."""
