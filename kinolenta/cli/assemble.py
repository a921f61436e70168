"""``kinolenta assemble``: three trained stages to one model folder."""

from pathlib import Path
from typing import Annotated

import typer

from kinolenta.cli.output import print_result


def assemble(
    transformer: Annotated[Path, typer.Option(help="Folder of the trained transformer (config, weights).")],
    decoder: Annotated[Path, typer.Option(help="Folder of the trained decoder (config, weights).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of the tokenizer; without it, the shipped vocabulary.")
    ] = None,
    guidance_scale: Annotated[float, typer.Option(help="The model's default guidance; 1 is none.")] = 3.0,
    guidance_frames: Annotated[
        int | None,
        typer.Option(help="So many first frames it leads by default: 1, 5, 9, ...; without it, all."),
    ] = None,
    temperature: Annotated[float, typer.Option(help="The model's default temperature.")] = 1.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print facts about the model as JSON.")] = False,
) -> None:
    """Put a tokenizer, a transformer and a decoder together as one model that the other commands take."""
    import torch

    from kinolenta.checkpoint import (
        INDEX_NAME,
        GenerationDefaults,
        ModelIndex,
        load_into,
        load_weights,
        save_index,
        save_weights,
    )
    from kinolenta.decoder import VideoVQGAN, VQGANConfig
    from kinolenta.errors import CheckpointError, ConfigError, require
    from kinolenta.pipeline import VideoPipeline
    from kinolenta.tokenizer import TextTokenizer
    from kinolenta.transformer import GPT, GPTConfig, SamplingConfig

    require(
        overwrite or not (output / INDEX_NAME).exists(),
        CheckpointError,
        "{} is a model already; choose another folder, or pass --overwrite.",
        output,
    )
    require(
        0 <= guidance_scale <= 100,
        ConfigError,
        "guidance_scale is {}; it must lie in 0..100.",
        guidance_scale,
    )
    SamplingConfig(temperature=temperature)
    text = TextTokenizer.shipped() if tokenizer is None else TextTokenizer.load(tokenizer)
    gpt_config, gpt_state = load_weights(transformer, GPTConfig)
    vqgan_config, vqgan_state = load_weights(decoder, VQGANConfig)
    defaults = GenerationDefaults(
        guidance_scale=guidance_scale, guidance_frames=guidance_frames, temperature=temperature
    )
    index = ModelIndex(fps=vqgan_config.fps, defaults=defaults)
    gpt, vqgan = GPT(gpt_config), VideoVQGAN(vqgan_config)
    load_into(gpt, gpt_state, str(transformer))
    load_into(vqgan, vqgan_state, str(decoder))
    VideoPipeline(
        text, gpt, vqgan, index
    )  # refuses stages that do not fit each other, before anything is written
    text.save(output / "tokenizer")
    save_weights(output / "transformer", gpt_config, gpt_state, dtype=torch.float16)
    save_weights(output / "decoder", vqgan_config, vqgan_state, dtype=torch.float16)
    save_index(output, index)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    print_result(output, {"bytes": size}, as_json=as_json)
