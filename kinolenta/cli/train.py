"""``kinolenta train``: one command per stage, all with the same options."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from kinolenta.cli.output import print_result
from kinolenta.config import Config, read_json, with_overrides

app = typer.Typer(help="Train a stage of the model.", no_args_is_help=True, rich_markup_mode=None)

ConfigFile = Annotated[Path | None, typer.Option("--config", help="JSON file of options.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Change one option; optim.learning_rate=3e-4. Repeatable."
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for weights, log and state.")]
Cache = Annotated[Path | None, typer.Option("--cache", help="Folder of the fetched sources.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the state in the output folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

ConfigT = TypeVar("ConfigT", bound=Config)


def read_config(config_class: type[ConfigT], file: Path | None, sets: list[str] | None) -> ConfigT:
    """A strict config from a file (or nothing but defaults) and --set assignments. Raises ConfigError."""
    values: Any = {} if file is None else read_json(file)
    if not isinstance(values, dict):
        return config_class.from_dict(values)  # raises, with the class in the message
    return config_class.from_dict(with_overrides(values, sets or []))


@app.command()
def tokenizer(
    out: Out, config: ConfigFile = None, set_: Sets = None, cache: Cache = None, as_json: AsJson = False
) -> None:
    """Train the byte-level BPE on the Russian corpus."""
    from kinolenta.data.fetch import cache_dir
    from kinolenta.training import tokenizer as stage

    settings = read_config(stage.TokenizerTrainConfig, config, set_)
    print_result(stage.train(settings, cache_dir(cache), out), {}, as_json=as_json)


@app.command()
def decoder(
    out: Out,
    config: ConfigFile = None,
    set_: Sets = None,
    cache: Cache = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train the video VQGAN on rendered clips."""
    from kinolenta.data.fetch import cache_dir
    from kinolenta.training import decoder as stage

    settings = read_config(stage.DecoderTrainConfig, config, set_)
    print_result(stage.train(settings, cache_dir(cache), out, resume=resume), {}, as_json=as_json)


@app.command()
def transformer(
    out: Out,
    config: ConfigFile = None,
    set_: Sets = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train the GPT on cached codes and their captions."""
    from kinolenta.training import transformer as stage

    settings = read_config(stage.TransformerTrainConfig, config, set_)
    print_result(stage.train(settings, out, resume=resume), {}, as_json=as_json)
