"""What a query may see, said in a few numbers: every backend turns the same description into its own mask.

A description instead of a mask tensor, so that a fused kernel can do the arithmetic on positions and skip
whole blocks. All masks are causal but for the prefix of ``Prefix``; the sparse ones leave out pairs of codes
only, so that every code sees the whole text before it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from kinolenta.errors import ConfigError, require

_Key: TypeAlias = tuple[int, int, torch.device]


class Kind(IntEnum):
    """Which rule holds between a query and a key, as kernels know it."""

    CAUSAL = 0
    PREFIX = 1
    ROW = 2
    COLUMN = 3
    NEIGHBOURHOOD = 4


class Rule(NamedTuple):
    """A mask without its rows: plain numbers, the constants of a kernel. Each Mask says what they mean."""

    kind: Kind
    num_codes: int = 0
    height: int = 1
    width: int = 1
    window_t: int = 0
    window_h: int = 0
    window_w: int = 0
    wrap: bool = False

    @classmethod
    def of(cls, numbers: Sequence[int]) -> "Rule":
        """The rule that these numbers are; operators of PyTorch pass lists of integers only."""
        kind, num_codes, height, width, window_t, window_h, window_w, wrap = numbers
        return cls(Kind(kind), num_codes, height, width, window_t, window_h, window_w, bool(wrap))


@dataclass(frozen=True, eq=False, kw_only=True)
class Mask:
    """What all masks share: where the queries stand, and which slots of a row are dead.

    start: slot of the first query, one for all rows or [b] int64; query i stands at slot ``start + i``.
    pad: [b] int64, dead slots at the start of each row (left-padded text); None means none.
    length: [b] int64, slots from there on are dead in each row; None means none.
    The output of a query that itself stands in a dead slot is finite, and nothing else is promised of it.
    """

    start: int | Tensor = 0
    pad: Tensor | None = None
    length: Tensor | None = None
    _visible: dict[_Key, Tensor] = field(default_factory=dict, init=False, repr=False)
    _bias: dict[_Key, Tensor] = field(default_factory=dict, init=False, repr=False)
    _rows: dict[_Key, Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def rule(self) -> Rule:
        """The mask as the constants of a kernel."""
        raise NotImplementedError

    @property
    def boundary(self) -> int | Tensor:
        """Slot where the prefix ends or the codes begin, one for all rows or [b]."""
        return 0

    def sees(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Whether a live query at one slot sees a live key at another; slots broadcast, [b or 1, 1, ...]."""
        raise NotImplementedError

    def visible(self, n: int, s: int, device: torch.device) -> Tensor:
        """The mask written out: bool [b or 1, 1, n, s], True where query i sees slot j.

        A query in a dead slot sees itself too, so that no softmax is empty. Remembered, because all layers of
        one pass share one description.
        """
        if (n, s, device) not in self._visible:
            queries = torch.arange(n, device=device)[:, None] + column(self.start)
            slots = torch.arange(s, device=device)
            visible = self.sees(queries, slots)
            if self.pad is not None:
                visible = visible & (slots >= column(self.pad))
            if self.length is not None:
                visible = visible & (slots < column(self.length))
            if self.pad is not None or self.length is not None:
                visible = visible | (slots == queries)
            self._visible[n, s, device] = visible.expand(*(1,) * (4 - visible.ndim), *visible.shape)
        return self._visible[n, s, device]

    def bias(self, n: int, s: int, like: Tensor) -> Tensor:
        """``visible`` as what is added to the scores: 0 or -inf, in the type of ``like``. Remembered too."""
        if (n, s, like.device) not in self._bias:
            self._bias[n, s, like.device] = self._written(n, s, like)
        return self._bias[n, s, like.device]

    def _written(self, n: int, s: int, like: Tensor) -> Tensor:
        return torch.where(self.visible(n, s, like.device), like.new_zeros(()), -math.inf)

    @cached_property
    def common_start(self) -> int | None:
        """The slot of the first query if all rows have the same, else None; found out once."""
        return None if len(set(self._starts)) > 1 else self._starts[0]

    @cached_property
    def last_start(self) -> int:
        """The largest slot of a first query; found out once."""
        return max(self._starts)

    @cached_property
    def _starts(self) -> list[int]:
        return [self.start] if isinstance(self.start, int) else self.start.reshape(-1).tolist()

    @property
    def checked_start(self) -> int:
        """``last_start`` for checks of sizes; 0 for a tensor under torch.compile: a look breaks the graph."""
        if isinstance(self.start, int):
            return self.start
        return 0 if torch.compiler.is_compiling() else self.last_start

    def rows(self, batch: int, s: int, device: torch.device) -> Tensor:
        """Per row: slot of the first query, first live slot, one after the last, boundary; int32 [b, 4].

        Remembered, as ``visible`` is.
        """
        if (batch, s, device) not in self._rows:
            columns = (self.start, 0 if self.pad is None else self.pad, self.length, self.boundary)
            values = [s if value is None else value for value in columns]
            with torch.inference_mode(False):  # or a later training pass could not keep it
                full = [torch.as_tensor(value, device=device).expand(batch) for value in values]
                self._rows[batch, s, device] = torch.stack(full, 1).to(torch.int32)
        return self._rows[batch, s, device]


@dataclass(frozen=True, eq=False, kw_only=True)
class Causal(Mask):
    """Every slot sees itself and all before it."""

    @property
    def rule(self) -> Rule:
        return Rule(Kind.CAUSAL)

    def sees(self, queries: Tensor, keys: Tensor) -> Tensor:
        return keys <= queries

    def _written(self, n: int, s: int, like: Tensor) -> Tensor:
        """The same in fewer operations where all rows begin at one slot, a live one."""
        pads = [0] if self.pad is None else self.pad.tolist()
        start = self.common_start
        if start is None or self.length is not None or max(pads) > start:
            return super()._written(n, s, like)
        hidden = like.new_full((n, s), -math.inf).triu_(start + 1)
        if not any(pads):
            return hidden[None, None]
        bias = hidden.repeat(len(pads), 1, 1, 1)
        for row, pad in zip(bias, pads, strict=True):
            row[..., :pad] = -math.inf
        return bias

    def is_plain(self, n: int, s: int) -> bool:
        """Whether this is causal attention of n queries over exactly the same n slots, none of them dead."""
        return (
            self.pad is None
            and self.length is None
            and isinstance(self.start, int)
            and (self.start == 0 and n == s)
        )

    def is_last(self, n: int, s: int) -> bool:
        """Whether this is a single query at the last slot, which sees everything."""
        return (
            self.pad is None
            and self.length is None
            and n == 1
            and isinstance(self.start, int)
            and (self.start + 1 == s)
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Prefix(Mask):
    """The first ``prefix`` slots (text) see one another in both directions; what follows is causal.

    prefix: one for all rows or [b] int64. After Raffel et al. 2020, arXiv:1910.10683, section 3.2.1.
    """

    prefix: int | Tensor

    @property
    def rule(self) -> Rule:
        return Rule(Kind.PREFIX)

    @property
    def boundary(self) -> int | Tensor:
        return self.prefix

    def sees(self, queries: Tensor, keys: Tensor) -> Tensor:
        return (keys <= queries) | (keys < column(self.prefix))


@dataclass(frozen=True, eq=False, kw_only=True)
class Sparse(Mask):
    """Causal, but codes see only some of the codes: which, the subclass says.

    code_start: slot of the first code, one for all rows or [b] int64. num_codes: how many codes there are;
    slots after them (right text) see all slots before, and text is seen by all slots after it.
    """

    code_start: int | Tensor
    num_codes: int

    def __post_init__(self) -> None:
        require(self.num_codes > 0, ConfigError, "num_codes must be positive; got {}.", self.num_codes)

    @property
    def boundary(self) -> int | Tensor:
        return self.code_start

    def near(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether the code at one raster index sees the code at another, causality apart."""
        raise NotImplementedError

    def sees(self, queries: Tensor, keys: Tensor) -> Tensor:
        query, key = queries - column(self.code_start), keys - column(self.code_start)
        text = (query < 0) | (query >= self.num_codes) | (key < 0)
        return (keys <= queries) & (text | self.near(query, key))


@dataclass(frozen=True, eq=False, kw_only=True)
class Row(Sparse):
    """ruDALL-E's row mask: the last ``width`` codes and the query's own; not a grid row, despite its name."""

    width: int

    @property
    def rule(self) -> Rule:
        return Rule(Kind.ROW, self.num_codes, width=self.width)

    def near(self, query: Tensor, key: Tensor) -> Tensor:
        return query - key <= self.width


@dataclass(frozen=True, eq=False, kw_only=True)
class Column(Sparse):
    """ruDALL-E's column mask: the codes above the query's own, in a grid ``width`` wide."""

    width: int

    @property
    def rule(self) -> Rule:
        return Rule(Kind.COLUMN, self.num_codes, width=self.width)

    def near(self, query: Tensor, key: Tensor) -> Tensor:
        return (query - key) % self.width == 0


@dataclass(frozen=True, eq=False, kw_only=True)
class Neighbourhood(Sparse):
    """Codes at most ``window`` (t, h, w) steps away in a grid of ``height`` x ``width`` codes a latent frame.

    The 3-D nearby attention of Wu et al. 2021, arXiv:2111.12417, and with one latent frame ruDALL-E's
    convolutional mask: a kernel of 11 is a window of (0, 5, 5). wrap: distances go around the borders of the
    frame, as in ruDALL-E's second version.
    """

    height: int
    width: int
    window: tuple[int, int, int]
    wrap: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            min(self.height, self.width) > 0 and min(self.window) >= 0,
            ConfigError,
            "a neighbourhood takes a positive height and width and a window of three numbers from 0; got {}.",
            (self.height, self.width, self.window),
        )
        require(
            not self.wrap or self.num_codes <= self.height * self.width,
            ConfigError,
            "wrap is for a single frame of {} codes; got {} codes.",
            self.height * self.width,
            self.num_codes,
        )

    @property
    def rule(self) -> Rule:
        return Rule(Kind.NEIGHBOURHOOD, self.num_codes, self.height, self.width, *self.window, self.wrap)

    def near(self, query: Tensor, key: Tensor) -> Tensor:
        per_frame = self.height * self.width
        times = _floor(query, per_frame) - _floor(key, per_frame)
        rows = (_floor(query, self.width) % self.height - _floor(key, self.width) % self.height).abs()
        columns = (query % self.width - key % self.width).abs()
        if self.wrap:
            rows = rows.minimum(self.height - rows)
            columns = columns.minimum(self.width - columns)
        window_t, window_h, window_w = self.window
        return (times <= window_t) & (rows <= window_h) & (columns <= window_w)


def column(value: int | Tensor) -> int | Tensor:
    """A number for all rows as it is, or one for each row as [b, 1, 1, 1]."""
    return value[:, None, None, None] if isinstance(value, Tensor) and value.ndim else value


def _floor(value: Tensor, by: int) -> Tensor:
    return value.div(by, rounding_mode="floor")


__all__ = ["Causal", "Column", "Kind", "Mask", "Neighbourhood", "Prefix", "Row", "Rule", "Sparse"]
