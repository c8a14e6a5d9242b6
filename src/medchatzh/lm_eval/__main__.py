"""`python -m medchatzh.lm_eval` prints the folder for `--include_path`; with a file of logged samples, the answers in it."""

import sys
from pathlib import Path

import msgspec

from medchatzh.lm_eval import answers

if len(sys.argv) == 1:
    print(Path(__file__).parent)
else:
    for line in answers(Path(sys.argv[1])):
        print(msgspec.json.encode(line).decode())
