"""A model on disk: safetensors and JSON only, checked in both directions.

    model_index.json   format, version, frames per second, kinds of the three stages
    tokenizer/         the text vocabulary, written by the tokenizer itself
    transformer/       config.json and model.safetensors
    decoder/           config.json and model.safetensors

Nothing that is read here can run code. Weights are stored as fp16, bf16 or fp32 and come back as fp32; a
missing, an extra or a misshapen tensor, and any NaN or infinity, is refused by name.
"""

import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinolenta import __version__
from kinolenta.config import Config, read_json
from kinolenta.errors import CheckpointError, ConfigError
from kinolenta.files import atomic_path, make_folder, sweep_partial, write_json

FORMAT_VERSION = 2
KINDS = {"tokenizer": "TextTokenizer", "transformer": "GPT", "decoder": "VideoVQGAN"}
INDEX_NAME, CONFIG_NAME, WEIGHTS_NAME = "model_index.json", "config.json", "model.safetensors"
MAX_HEADER_BYTES = 10_000_000
_STORED_FLOATS = (torch.float16, torch.bfloat16, torch.float32)
_STORED_OTHERS = (torch.int64, torch.int32, torch.uint8, torch.bool)
_VALUES_KEY = "kinolenta"

ConfigT = TypeVar("ConfigT", bound=Config)


@dataclass(frozen=True, kw_only=True)
class GenerationDefaults(Config):
    """How a model draws unless told otherwise.

    guidance_frames: 1 + n * time_stride lets guidance lead 1 + n latent frames, the first that are drawn;
    None is all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    guidance_scale: float = 3.0
    guidance_frames: int | None = None


@dataclass(frozen=True, kw_only=True)
class ModelIndex(Config):
    """What ``model_index.json`` says about a model folder.

    fps: of the films that it makes; kinds: stage name -> class name, so that another kind of stage is
    noticed; defaults: see GenerationDefaults.
    """

    fps: float
    defaults: GenerationDefaults = field(default_factory=GenerationDefaults)
    kinds: dict[str, str] = field(default_factory=lambda: dict(KINDS))
    format_version: int = FORMAT_VERSION
    kinolenta_version: str = __version__

    def __post_init__(self) -> None:
        if self.format_version != FORMAT_VERSION:
            raise ConfigError(
                f"The model has format version {self.format_version}; this kinolenta reads {FORMAT_VERSION}."
            )
        if foreign := {name: kind for name, kind in self.kinds.items() if KINDS.get(name) != kind}:
            raise ConfigError(f"The model has the stages {foreign}; this kinolenta runs {KINDS}.")
        if not 0 < self.fps <= 1000:
            raise ConfigError(f"ModelIndex.fps must be above 0 and at most 1000; got {self.fps}.")


def demo_folder() -> Path:
    """The folder of the checkpoint that comes with the package."""
    return Path(str(resources.files("kinolenta.checkpoints"))) / "demo"


def count_parameters(folder: str | Path) -> int:
    """How many numbers the stage in ``folder`` holds, read from the header alone."""
    path = Path(folder) / WEIGHTS_NAME
    header = _read_header(path)
    try:
        with safe_open(path, "pt"):  # compares the header with the length of the file
            pass
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error


def save_index(folder: str | Path, index: ModelIndex) -> None:
    """Write ``model_index.json``; write it last, since a folder without it is no model."""
    folder = make_folder(folder, CheckpointError)
    write_json(folder / INDEX_NAME, index.to_dict(), CheckpointError)


def load_index(folder: str | Path) -> ModelIndex:
    """Read ``model_index.json``. Raises CheckpointError if the folder is no model or has another format."""
    path = Path(folder) / INDEX_NAME
    try:
        there, complete = Path(folder).exists(), path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise CheckpointError(f"The model folder {folder} cannot be read: {error.strerror}.") from error
    if not there:
        raise CheckpointError(f"There is no model folder {folder}; check the path.")
    if not complete:
        raise CheckpointError(f"{folder} is not a model folder: it has no {INDEX_NAME}.")
    return _load_config(path, ModelIndex)


def save_weights(
    folder: str | Path, config: Config, state: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> None:
    """Write ``config.json`` and ``model.safetensors`` of one stage into ``folder``, replacing older ones.

    dtype: float type to store (float16, bfloat16 or float32); None keeps each tensor's own. Raises
    CheckpointError for a NaN or an infinity, the kind that a too narrow dtype makes included.
    """
    if dtype is not None and dtype not in _STORED_FLOATS:
        raise CheckpointError(f"Weights cannot be stored as {dtype}; use float16, bfloat16 or float32.")
    stored = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point() and dtype is not None:
            tensor = tensor.to(dtype)
        _check_tensor(WEIGHTS_NAME, name, tensor)
        stored[name] = tensor.clone(
            memory_format=torch.contiguous_format
        )  # tied weights may not share memory
    folder = make_folder(folder, CheckpointError)
    write_json(folder / CONFIG_NAME, config.to_dict(), CheckpointError)
    _save_tensors(folder / WEIGHTS_NAME, stored, {"format": "pt"})


def load_weights(folder: str | Path, config_class: type[ConfigT]) -> tuple[ConfigT, dict[str, Tensor]]:
    """Read one stage from ``folder``: its config, and its tensors with every float as fp32.

    Give the tensors to ``load_into``, which compares them with the module. Raises CheckpointError.
    """
    folder = Path(folder)
    config = _load_config(folder / CONFIG_NAME, config_class)
    if missing := sorted(config.to_dict().keys() - read_json(folder / CONFIG_NAME).keys()):
        raise CheckpointError(
            f"{folder / CONFIG_NAME} does not say {missing[0]!r}; another version of kinolenta wrote it. "
            "Add what the model was trained with."
        )
    path = folder / WEIGHTS_NAME
    state = {}
    for name, tensor in _load_tensors(path).items():
        _check_tensor(str(path), name, tensor)
        state[name] = tensor.float() if tensor.is_floating_point() else tensor
    return config, state


def load_into(module: nn.Module, state: Mapping[str, Tensor], name: str = WEIGHTS_NAME) -> None:
    """Copy tensors into a module that has exactly these names, shapes and kinds of numbers.

    name: of the file, for messages. Raises CheckpointError that names the first tensor that does not fit.
    """
    wanted = module.state_dict()
    if missing := sorted(wanted.keys() - state.keys()):
        raise CheckpointError(
            f"{name} has no tensor {missing[0]!r} ({len(missing)} of {len(wanted)} are missing); "
            "its config.json describes another model."
        )
    if extra := sorted(state.keys() - wanted.keys()):
        raise CheckpointError(
            f"{name} holds a tensor {extra[0]!r} that the model does not have ({len(extra)} such); "
            "its config.json describes another model."
        )
    for key, tensor in state.items():
        if tensor.shape != wanted[key].shape:
            raise CheckpointError(
                f"{name}: tensor {key!r} has shape {list(tensor.shape)}; "
                f"the model wants {list(wanted[key].shape)}."
            )
        if tensor.is_floating_point() != wanted[key].is_floating_point():
            raise CheckpointError(
                f"{name}: tensor {key!r} is {tensor.dtype}; the model wants {wanted[key].dtype}."
            )
    module.load_state_dict(state, strict=True)


def save_trainer_state(path: str | Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Write all that a training run needs to go on, as one file: tensors, and plain JSON values beside them.

    The old file is replaced only when the new one is safely on the disk; what an earlier kill left over is
    swept.
    """
    path = Path(path)
    make_folder(path.parent, CheckpointError)
    try:
        text = json.dumps(dict(values), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the trainer's values are not plain JSON: {error}.") from error
    sweep_partial(path)
    stored = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    _save_tensors(path, stored, {_VALUES_KEY: text})


def load_trainer_state(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``save_trainer_state`` wrote: tensors in their own dtypes, and the values."""
    path = Path(path)
    text = _read_header(path).get("__metadata__", {}).get(_VALUES_KEY)
    if text is None:
        raise CheckpointError(f"{path} is not a training state of kinolenta.")
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} has damaged values: {error}.") from error
    return _load_tensors(path), values


def _check_tensor(file: str, name: str, tensor: Tensor) -> None:
    if tensor.dtype not in (*_STORED_FLOATS, *_STORED_OTHERS):
        raise CheckpointError(f"{file}: tensor {name!r} is {tensor.dtype}, which model files may not hold.")
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise CheckpointError(f"{file}: tensor {name!r} holds NaN or infinite values.")


def _load_config(path: Path, config_class: type[ConfigT]) -> ConfigT:
    try:
        return config_class.from_file(path)
    except CheckpointError:
        raise
    except ConfigError as error:
        message = str(error)
        raise CheckpointError(message if str(path) in message else f"{path}: {message}") from error


def _save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    with atomic_path(path, CheckpointError, overwrite=True) as partial:
        mode = stat.S_IMODE(partial.stat().st_mode)
        try:
            save_file(tensors, partial, metadata=metadata)
            partial.chmod(mode)  # the library replaces the file by one that only its owner may read
        except SafetensorError as error:
            raise CheckpointError(f"{path} cannot be written: {error}.") from error


def _load_tensors(path: Path) -> dict[str, Tensor]:
    _read_header(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error


def _read_header(path: Path) -> dict[str, Any]:
    """The JSON header, with what the safetensors library does not check: its size, repeated names."""
    try:
        with open(path, "rb", opener=_open_nonblocking) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise CheckpointError(f"{path} is not a regular file.")
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= MAX_HEADER_BYTES:
                raise CheckpointError(f"{path} is not a safetensors file, or is damaged.")
            header = json.loads(file.read(length), object_pairs_hook=_unique_names)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a safetensors file, or is damaged.") from error
    except _RepeatedName as error:
        raise CheckpointError(f"{path} is damaged: its header repeats the name {error.args[0]!r}.") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise CheckpointError(f"{path} is not a safetensors file, or is damaged.")
    return header


class _RepeatedName(Exception):
    pass


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for name, value in pairs:
        if name in seen:
            raise _RepeatedName(name)
        seen[name] = value
    return seen


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a named pipe must not hang the reader
