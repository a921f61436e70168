"""The benchmark scripts as modules, and a VQGAN small enough for tests."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch

from kinolenta.decoder import VideoVQGAN, VQGANConfig

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(BENCHMARKS))  # where a script's own folder stands when it runs
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def tiny_vqgan() -> VideoVQGAN:
    torch.manual_seed(0)
    config = VQGANConfig(channels=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1), fsq_levels=(4, 4))
    return VideoVQGAN(config).eval().requires_grad_(False)
