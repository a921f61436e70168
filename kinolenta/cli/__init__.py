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
        app(prog_name="kinolenta")
    except (KinolentaError, OSError) as error:  # of the system's errors, a full disk behind stdout above all
        # One line, whatever a file name or a library put into the message.
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        _flush(quiet=True)
        sys.exit(1)
    finally:
        _flush()


def _flush(quiet: bool = False) -> None:
    """Write what is left now and not at exit, so that a full disk is an error in one line too."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again
        if not quiet and not isinstance(error, BrokenPipeError):  # whoever closes a pipe has seen enough
            print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
