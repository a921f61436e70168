"""Whole or absent: what stands under a name after a failure, a kill, or a success."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kinolenta.errors import CheckpointError, MediaError
from kinolenta.files import atomic_path, make_folder, write_json


def test_success_leaves_one_file_with_the_usual_permissions(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "a.bin", MediaError, overwrite=False) as partial:
            assert partial.parent == tmp_path and not (tmp_path / "a.bin").exists()
            partial.write_bytes(b"new")
    finally:
        os.umask(old)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("problem", [RuntimeError("bug"), KeyboardInterrupt(), OSError(28, "No space left")])
def test_failure_keeps_the_old_file_and_leaves_no_other(tmp_path: Path, problem: BaseException) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    wanted = CheckpointError if isinstance(problem, OSError) else type(problem)
    with pytest.raises(wanted), atomic_path(path, CheckpointError, overwrite=True) as partial:
        partial.write_bytes(b"half")
        raise problem
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with pytest.raises(MediaError, match="exists already"), atomic_path(path, MediaError, overwrite=False):
        path.write_bytes(b"another process")
    assert path.read_bytes() == b"another process" and list(tmp_path.iterdir()) == [path]


def test_impossible_places_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    for name, words in (
        (".", "is a folder"),
        ("no/a.bin", "no folder"),
        ("file/a.bin", "no folder"),
        ("pipe", "not a regular file"),
        ("a" * 300, "cannot be written: File name too long"),
        ("a\0b", "NUL"),
    ):
        with pytest.raises(MediaError, match=words), atomic_path(tmp_path / name, MediaError, overwrite=True):
            pytest.fail("the block must not run")
    with pytest.raises(CheckpointError, match="cannot be created"):
        make_folder(tmp_path / "file" / "deeper", CheckpointError)


def test_json_is_written_as_readable_utf8(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"кот": 1}, CheckpointError)
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "кот": 1\n}\n'
    with pytest.raises(CheckpointError, match="JSON"):
        write_json(tmp_path / "b.json", {"a": float("nan")}, CheckpointError)
    assert not (tmp_path / "b.json").exists()


KILLED_WRITER = """
import sys
from pathlib import Path
from kinolenta.errors import MediaError
from kinolenta.files import atomic_path
path = Path(sys.argv[1])
for number in range(10**9):
    with atomic_path(path, MediaError, overwrite=True) as partial:
        with open(partial, "wb") as file:
            for _ in range(50):
                file.write(number.to_bytes(8, "little") * 1000)
                file.flush()
    if number == 0:
        print("ready", flush=True)
"""


def test_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for attempt in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED_WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        time.sleep(0.003 * (attempt + 1))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        data = path.read_bytes()
        assert len(data) == 400_000 and data == data[:8] * 50_000
