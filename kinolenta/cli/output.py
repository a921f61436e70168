"""What commands print: the result on stdout, all else on stderr."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def print_result(path: Path, facts: dict[str, Any], *, as_json: bool) -> None:
    """The path of what was made, or one line of JSON that holds it and the facts about it."""
    print(json.dumps({"path": str(path), **facts}, ensure_ascii=False) if as_json else path)


def say(message: str) -> None:
    """One line for the person who watches."""
    print(message, file=sys.stderr)


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, after a second; yields a function to be called with (done, total)."""
    from tqdm import tqdm

    with tqdm(desc=label, unit="code", file=sys.stderr, leave=False, delay=1.0) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update
