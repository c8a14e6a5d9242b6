"""Others' models as they are published: how their own code asks them (`baselines`, `asking`), and their layouts of weights."""
