"""``kinolenta info``: what is installed, on what it runs, and what a model folder holds."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

CHECKED = "рыжая кошка бежит вправо по траве"


def info(
    model: Annotated[
        Path | None, typer.Option(help="Model folder to describe; without it, the shipped demo.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(help="Also draw a clip code by code and many at once, and say whether they are equal."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show versions, the device, and the model's stages."""
    facts = {**_versions(), **_device(), **_model(model), **(_check(model) if check else {})}
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


def _check(folder: Path | None) -> dict[str, Any]:
    """Whether rows keep their bits on this processor: its matrix library decides, not we."""
    from kinolenta.pipeline import VideoPipeline

    pipe = VideoPipeline.from_pretrained(folder)
    # Led throughout, and so scored: log-probabilities tell of bits that turned no draw over.
    one_by_one, many = (
        pipe(CHECKED, seed=0, guidance_scale=2.0, guidance_frames=pipe.num_frames, decoding=decoding)
        for decoding in ("sequential", "parallel")
    )
    same = bool((one_by_one.codes == many.codes).all())
    scored = (one_by_one.log_prob, one_by_one.score) == (many.log_prob, many.score)
    return {"parallel_equals_sequential": same and scored}
