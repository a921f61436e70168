"""Fixtures of the tests of evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two clips of noise as ``kinolenta data render`` leaves them."""
    folder = tmp_path / "store"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (2, 17, 64, 64, 3), dtype=np.uint8)
    (folder / "clips.bin").write_bytes(noise.tobytes())
    (folder / "clips.json").write_text(json.dumps({"num_clips": 2, "size": 64, "fps": 8.0}))
    return folder
