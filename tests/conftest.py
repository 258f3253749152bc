"""Fixtures that every test may use."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    """Two test processes share the cores of a small machine; more threads than cores only make them wait."""
    torch.set_num_threads(int(os.environ.get("POSEKIT_TEST_THREADS", "1")))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real recordings that may lie beside a checkout; tests that want it skip where it is absent."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip("the folder of real recordings is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def pose_data() -> ModuleType:
    """The module `pose_data.py`, which writes small data sets of people with 3D joints and labels."""
    spec = importlib.util.spec_from_file_location("pose_data", Path(__file__).with_name("pose_data.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pose_data"] = module
    spec.loader.exec_module(module)
    return module
