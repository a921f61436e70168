"""Strict configurations: one frozen dataclass per stage, JSON in and out, unknown keys refused.

A leaf of the import graph beside ``kinolenta.errors``. A config class mixes in ``Config`` and checks its own
values in ``__post_init__``; tuples become JSON lists and come back as tuples.
"""

import dataclasses
import difflib
import json
import math
import types
import typing
from pathlib import Path
from typing import Any, Self

from kinolenta.errors import ConfigError

MAX_CONFIG_BYTES = 1_000_000
MAX_NUMBER = 10**300


class Config:
    """Mixin for frozen dataclasses: strict conversion from and to plain JSON values."""

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Build from plain JSON values. Raises ConfigError that names the unknown key or the wrong type."""
        if not isinstance(values, dict):
            raise ConfigError(f"{cls.__name__} must be a JSON object; got {type(values).__name__}.")
        hints = typing.get_type_hints(cls)
        known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        for key in values:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1)
                advice = f"Did you mean {close[0]!r}?" if close else f"Known options: {', '.join(known)}."
                raise ConfigError(f"{cls.__name__} has no option {key!r}. {advice}")
        try:
            return cls(**{key: _convert(cls, key, hints[key], value) for key, value in values.items()})
        except TypeError as error:  # a required field is absent
            raise ConfigError(f"{cls.__name__} is incomplete: {error}.") from error

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read from a JSON file of at most 1 MB."""
        return cls.from_dict(read_json(path))

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload]


def read_json(path: str | Path) -> Any:
    """Parse a small JSON file. Raises ConfigError if it is missing, too large, damaged, or repeats a key."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(
                f"{path} is larger than {MAX_CONFIG_BYTES} bytes, too large for a configuration."
            )
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique_keys)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    except (ValueError, RecursionError) as error:  # also numbers too long to be read
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} is not valid JSON: {error}.") from error


def with_overrides(values: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Apply ``a.b=value`` strings to nested plain values; a value is JSON, or else a bare string."""
    values = json.loads(json.dumps(values))
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator or not name:
            raise ConfigError(f"--set {assignment!r} is not of the form name=value.")
        *parents, leaf = name.split(".")
        target = values
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise ConfigError(f"--set {assignment!r}: {parent!r} is a value, not a group of options.")
        try:
            target[leaf] = json.loads(text)
        except json.JSONDecodeError:
            target[leaf] = text
        except (ValueError, RecursionError) as error:  # a number too long, lists too deep
            raise ConfigError(f"--set {name}: the value cannot be read: {error}.") from error
    return values


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        repeated = sorted({key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1})
        raise ConfigError(f"JSON object repeats the key {repeated[0]!r}; each may stand once.")
    return values


def _convert(cls: type, key: str, hint: Any, value: Any) -> Any:
    """Check one JSON value against its annotation; the annotations in use are plain, tuple, union or
    Config.
    """
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        [hint] = [option for option in options if option is not type(None)]
        return _convert(cls, key, hint, value)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{cls.__name__}.{key} must be a list; got {value!r}.")
        return tuple(_convert(cls, key, typing.get_args(hint)[0], item) for item in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{cls.__name__}.{key} must be an object; got {value!r}.")
        return dict(value)
    if isinstance(hint, type) and issubclass(hint, Config):
        return value if isinstance(value, hint) else hint.from_dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < MAX_NUMBER else math.inf
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{cls.__name__}.{key} must be {hint.__name__}; got {value!r}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{cls.__name__}.{key} must be a finite number; got {value}.")
    return value
