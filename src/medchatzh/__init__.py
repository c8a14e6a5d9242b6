"""medchatzh: Chinese medical dialogue models, from raw records to an evaluated model.

Each stage is a module with a `Config`, pure functions over `medchatzh.records`, and `run(config, inputs, out, context)`.
"""

__version__ = "0.1.0"
