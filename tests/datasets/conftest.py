"""Fixtures for the tests of data sets."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def h36m_raw() -> ModuleType:
    """The module that writes tiny raw layouts of Human3.6M."""
    spec = importlib.util.spec_from_file_location("h36m_raw", Path(__file__).with_name("h36m_raw.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
