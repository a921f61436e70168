"""The command ``kinolenta``.

stdout carries the result alone (a path, or JSON with --json), progress goes to stderr. Exit codes: 0 done, 1
a named error in one line, 2 wrong usage, 130 interrupted. Heavy modules are imported inside the commands, so
that --help is instant.
"""

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; the console script and ``python -m kinolenta`` come here."""
    from kinolenta.cli.app import app
    from kinolenta.errors import KinolentaError

    try:
        try:
            app(prog_name="kinolenta")
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here and not at exit, so that a full disk is an error in one line too
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again
        print(f"error: the result cannot be written to stdout: {error.strerror or error}.", file=sys.stderr)
        sys.exit(1)
    except KinolentaError as error:
        # One line, whatever a file name or a library put into the message.
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(1)
