"""``kinolenta info``: what is installed, on what it runs, and what a model folder holds."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

CHECKED = ("рыжая кошка бежит вправо по траве", "синий автомобиль едет влево по песку")


def info(
    model: Annotated[
        Path | None, typer.Option(help="Model folder to describe; without it, the shipped demo.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Also draw two clips, alone and code by code, in a list and many at once, and say whether "
            "they are equal, bit for bit.",
        ),
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
    from kinolenta.tokenizer import TextTokenizer

    path = folder or demo_folder()
    index = load_index(path)
    facts: dict[str, Any] = {"model": str(path), "fps": index.fps, **index.kinds}
    facts["vocabulary"] = TextTokenizer.load(path / "tokenizer").vocab_size
    for stage in ("transformer", "decoder"):
        facts[f"{stage}_parameters"] = count_parameters(path / stage)
    return facts


def _check(folder: Path | None) -> dict[str, Any]:
    """Whether rows keep their bits on this processor: its matrix library decides, not we. In float32, with
    the model's own settings.
    """
    from kinolenta.pipeline import VideoPipeline

    pipe, seeds = VideoPipeline.from_pretrained(folder), range(len(CHECKED))
    many = pipe(list(CHECKED), seed=list(seeds), truncate=True)
    same = True
    for prompt, seed, clip in zip(CHECKED, seeds, many, strict=True):
        alone = pipe(prompt, seed=seed, decoding="sequential", truncate=True)
        # Log-probabilities tell of bits that turned no draw over.
        same &= bool((alone.codes == clip.codes).all()) and alone.log_prob == clip.log_prob
    return {"parallel_equals_sequential": same}
