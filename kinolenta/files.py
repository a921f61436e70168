"""Files that are either whole or absent: everything the package writes to disk passes through here.

The invariant: at any moment, a reader finds under the final name the complete old file or the complete new
one.
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kinolenta.errors import KinolentaError

PARTIAL_SUFFIX = ".partial"
MAX_NAME_BYTES = 255  # of usual file systems


def check_writable(path: str | Path, error: type[KinolentaError], *, overwrite: bool) -> Path:
    """Refuse early what ``atomic_path`` would refuse after the work is done; returns the path."""
    path = Path(path)
    try:
        _check_writable(path, error, overwrite)
    except OSError as problem:  # a name too long, a folder that may not be looked into
        raise error(f"{path} cannot be written: {problem.strerror}.") from problem
    return path


def _check_writable(path: Path, error: type[KinolentaError], overwrite: bool) -> None:
    folder = path.parent
    if "\0" in str(path):
        raise error(f"{str(path)!r} is not a file name: it holds a NUL character.")
    if not path.name or path.is_dir():
        raise error(f"{path} is a folder; give a file name in it.")
    if not folder.is_dir():
        raise error(f"{path} cannot be written: there is no folder {folder}. Create it first.")
    there = os.path.lexists(path)  # a link that leads nowhere is something too
    if there and not path.is_file():
        raise error(f"{path} is not a regular file; choose another output.")
    if there and not overwrite:
        raise error(f"{path} exists already; choose another name, or pass overwrite (--overwrite).")
    # Tried, not asked of os.access: the superuser is told yes even of a file system that takes no files.
    probe = _partial_name(path)
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as problem:
        reason = problem.strerror or problem
        raise error(f"{path} cannot be written: {folder} takes no new file ({reason}).") from problem
    _remove(probe)


def _partial_name(path: Path) -> Path:
    longest = MAX_NAME_BYTES - len(f"..{'0' * 12}{PARTIAL_SUFFIX}")
    name = path.name.encode(errors="surrogateescape")[:longest].decode(errors="ignore")
    return path.with_name(f".{name}.{secrets.token_hex(6)}{PARTIAL_SUFFIX}")


@contextmanager
def atomic_path(path: str | Path, error: type[KinolentaError], *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary file in the same folder, which becomes ``path`` when the block ends well.

    The file is synchronised to the disk before it is renamed. On any failure the temporary file is removed
    and an old file stays as it was. Raises ``error`` in one sentence for a folder that is missing or not
    writable, for an existing file unless ``overwrite``, and for an OSError inside the block (a full disk).
    """
    path = check_writable(path, error, overwrite=overwrite)
    partial = _partial_name(path)
    try:
        # Created here, not by mkstemp, so that the user's umask decides about the permissions.
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield partial
        _sync(partial)
        check_writable(path, error, overwrite=overwrite)  # another process may have written it meanwhile
        os.replace(partial, path)
    except OSError as problem:
        _remove(partial)
        raise error(f"{path} cannot be written: {problem.strerror or problem}.") from problem
    except BaseException:
        _remove(partial)
        raise
    with suppress(OSError):  # some systems cannot open a folder; the file itself is safe already
        _sync(path.parent)


def write_json(path: str | Path, values: Any, error: type[KinolentaError], *, overwrite: bool = True) -> None:
    """Write plain values as UTF-8 JSON, whole or not at all. Raises ``error`` for NaN or odd types."""
    try:
        text = json.dumps(values, ensure_ascii=False, indent=2, allow_nan=False)
    except (TypeError, ValueError) as problem:
        raise error(f"{path} cannot be written as JSON: {problem}.") from problem
    with atomic_path(path, error, overwrite=overwrite) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def make_folder(path: str | Path, error: type[KinolentaError]) -> Path:
    """Create a folder with its parents if it is not there. Raises ``error`` in one sentence."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise error(f"The folder {path} cannot be created: {problem.strerror}.") from problem
    return path


def sweep_partial(path: str | Path) -> list[Path]:
    """Remove what killed writers of this file left behind; only for files with a single writer."""
    path = Path(path)
    stale = sorted(
        other
        for other in path.parent.iterdir()
        if other.name.startswith(f".{path.name}.") and other.name.endswith(PARTIAL_SUFFIX)
    )
    for partial in stale:
        _remove(partial)
    return stale


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
