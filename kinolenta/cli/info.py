"""``kinolenta info``: what is installed, on what it runs, and what a model folder holds."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def info(
    model: Annotated[
        Path | None, typer.Option(help="Model folder to describe; without it, the shipped demo.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show versions, the device, and the model's stages."""
    facts = {**_versions(), **_device(), **_model(model)}
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")


def _versions() -> dict[str, Any]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from kinolenta import __version__

    facts: dict[str, Any] = {"kinolenta": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "tokenizers", "av", "safetensors", "triton"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def _device() -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {"device": gpu or "cpu", "threads": torch.get_num_threads()}


def _model(folder: Path | None) -> dict[str, Any]:
    from kinolenta.checkpoint import count_parameters, demo_folder, load_index

    path = folder or demo_folder()
    index = load_index(path)
    facts: dict[str, Any] = {"model": str(path), "fps": index.fps, **index.kinds}
    for stage in ("transformer", "decoder"):
        facts[f"{stage}_parameters"] = count_parameters(path / stage)
    return facts
