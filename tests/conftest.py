"""Fixtures that many tests share: real data, samples, a tiny tokenizer and a tiny model."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.append(str(Path(__file__).resolve().parents[1]))  # worker processes import what a test module defines
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (sys.path[-1], os.environ.get("PYTHONPATH"))))

import pytest
from hypothesis import settings

settings.register_profile("local", deadline=None)  # a first call may compile, a machine may be busy
settings.register_profile("ci", deadline=None, derandomize=True)  # the same examples every time; new ones are for the developer to find
settings.load_profile("ci" if os.environ.get("CI") else "local")

TEXTS = [
    "高血压患者应低盐饮食，规律服药，定期监测血压。",
    "小儿发热时注意补充水分，体温超过38.5℃可遵医嘱用退热药。",
    "脾胃虚弱者宜健脾益气，四君子汤为其代表方。",
    "Human: \nAssistant: \n1. 休息；\n2. 多饮水。",
    "失眠多梦，心烦口干，舌红少苔，脉细数，治宜滋阴清热。",
]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: $MEDCHATZH_DATA, or `shared/data` beside the checkout."""
    folder = Path(os.environ.get("MEDCHATZH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set MEDCHATZH_DATA")
    return folder


@pytest.fixture(scope="session")
def samples() -> Path:
    """The sample records inside the package."""
    import medchatzh

    return Path(medchatzh.__file__).parent / "samples"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder: a throw-away tokenizer and a LLaMA of some 20,000 random weights."""
    from medchatzh import models, tokenizer

    folder = tmp_path_factory.mktemp("checkpoint")
    config = tokenizer.Config(vocab_size=400)
    tokenizer.save(tokenizer.train(TEXTS * 20, config), config, folder)
    loaded, template = models.load_tokenizer(folder)
    shape = models.Architecture(hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, max_positions=256)
    models.save(models.new_causal(shape, loaded, seed=1), loaded, template, folder)
    return folder
