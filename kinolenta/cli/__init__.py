"""The command ``kinolenta``.

stdout carries the result alone (a path, or JSON with --json), progress goes to stderr. Exit codes: 0 done, 1
a named error in one line, 2 wrong usage, 130 interrupted. Heavy modules are imported inside the commands, so
that --help is instant.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; the console script and ``python -m kinolenta`` come here."""
    from kinolenta.cli.app import app
    from kinolenta.errors import KinolentaError

    try:
        app(prog_name="kinolenta")
    except KinolentaError as error:
        # One line, whatever a file name or a library put into the message.
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(1)
