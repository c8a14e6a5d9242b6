"""This machine, without what varies between machines, and a sound recipe on it."""

import msgspec
import pytest

from medchatzh.doctor.machine import look
from tests.doctor.patients import Patient


@pytest.fixture(scope="session")
def here():
    """This machine, with what varies between machines as it should be."""
    return msgspec.structs.replace(
        look(), gpus=(), driver_cuda="", num_processes=0, encoding="utf-8", cores=2, usable_cores=2.0, has_cpu_bf16=True,
        memory_bytes=16_000_000_000, free_memory_bytes=12_000_000_000, backends=("gloo",), requirements={},
    )  # fmt: skip


@pytest.fixture
def patient(tmp_path, here) -> Patient:
    return Patient(tmp_path, here)
