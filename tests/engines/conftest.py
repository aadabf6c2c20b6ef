"""
Real engines on the loopback, each from an environment of its own under build/engines. `make engines` installs them and runs
this folder; no other run of pytest collects it.
"""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.fixture(autouse=True)
def endpoints_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/conftest.py takes this process offline, and then no endpoint is asked, not even a local one."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
