"""The command run in this process, and a pipeline that needs no model."""

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinolenta.checkpoint import ModelIndex, save_index
from kinolenta.cli import main
from kinolenta.clip import Clip


@dataclass
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run ``kinolenta ARGUMENTS``; returns its exit code and what it printed."""

    def run_command(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["kinolenta", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return Result(int(stopped.value.code or 0), captured.out, captured.err)

    return run_command


class PaintingPipeline:
    """Stands in for the model: draws flat frames of a colour that the seed gives, or the image."""

    fps, height, width, time_stride = 8.0, 16, 16, 4
    calls: list[dict[str, Any]]

    def __call__(
        self, prompt: str, *, image: Any = None, seed: int = 0, progress: Any = None, **options: Any
    ) -> Clip:
        self.calls.append({"prompt": prompt, "image": image, "seed": seed, **options})
        frames = np.full((17, 16, 16, 3), seed % 256 if image is None else image[0, 0, 0], dtype=np.uint8)
        if progress is not None:
            progress(10, 20)
            progress(20, 20)
        return Clip(
            frames=frames,
            fps=8.0,
            codes=np.zeros((5, 2, 2), int),
            prompt=prompt,
            seed=seed,
            log_prob=-1.5,
            passes=20,
        )

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        return np.clip(frames.astype(int) + 5, 0, 255).astype(np.uint8)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> PaintingPipeline:
    """``kinolenta.pipeline`` replaced by one that paints; its ``calls`` say how it was used."""
    painter = PaintingPipeline()
    painter.calls = []

    def from_pretrained(path: Any = None, precision: str = "float32") -> PaintingPipeline:
        painter.calls.append({"model": path, "precision": precision})
        return painter

    module = types.ModuleType("kinolenta.pipeline")
    module.VideoPipeline = types.SimpleNamespace(from_pretrained=from_pretrained)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kinolenta.pipeline", module)
    return painter


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that says it is a model."""
    save_index(tmp_path / "model", ModelIndex(fps=8.0, kinds={}))
    return tmp_path / "model"
