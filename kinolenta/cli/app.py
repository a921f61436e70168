"""The commands by name."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kinolenta import __version__
from kinolenta.cli.assemble import assemble
from kinolenta.cli.data import app as data_app
from kinolenta.cli.generate import generate
from kinolenta.cli.info import info
from kinolenta.cli.read import answer, caption, score
from kinolenta.cli.reconstruct import reconstruct
from kinolenta.cli.train import app as train_app


class Commands(TyperGroup):
    """The group of all commands; Ctrl-C anywhere in them ends with one line and the shell's code for it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)


# Plain help: drawing it with rich would cost more time than all the rest of --help.
app = typer.Typer(
    cls=Commands,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)
app.command()(generate)
app.command()(caption)
app.command()(answer)
app.command()(score)
app.command()(reconstruct)
app.add_typer(train_app, name="train")
app.add_typer(data_app, name="data")
app.command()(assemble)
app.command()(info)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def kinolenta(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A Russian sentence goes in, a clip comes out, one token at a time."""
