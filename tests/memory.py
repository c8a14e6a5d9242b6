"""How much memory a piece of work needs, in a process of its own."""

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import re
from pathlib import Path
import torch, transformers, sentencepiece, safetensors.torch
from transformers import PreTrainedTokenizerFast
from sentencepiece import sentencepiece_model_pb2
from medchatzh import models
{imports}

def resident(kind):  # the kernel's own peak of this process; getrusage counts the one that forked it, too
    return int(re.search(kind + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

torch.set_num_threads(1)
models.require_torch()
before = resident("VmRSS")
{work}
print(resident("VmHWM") - before)
"""


def peak_bytes(imports: str, work: str, folder: Path) -> int:
    """What `work`, run in `folder`, needs at most beyond libraries."""
    program = _PROGRAM.format(imports=imports, work=work)
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return int(done.stdout)
