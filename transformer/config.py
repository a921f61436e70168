"""The transformer's sizes, checked when they are made."""

import math
from dataclasses import dataclass

from kinolenta.config import Config
from kinolenta.errors import ConfigError, require
from kinolenta.transformer.scan import SCANS


@dataclass(frozen=True, kw_only=True)
class GPTConfig(Config):
    """Sizes of a GPT over strips of text and codes.

    text_dim: width of the factorised text embedding, shared with the text head.
    code_levels: values of each digit of a code, least significant digit first, if codes are made of small
    digits (finite scalar quantization): codes that share digits then share parameters. Empty: a plain table.
    grid: code grid (t, h, w) of a trained clip; longer clips clip t to it.
    scan: order of the codes of a latent frame, one of ``SCANS``.
    gap: how many codes just before it a code does not look at, so that gap + 1 can be drawn at once; the
    first gap + 1 of a clip look at all before them. 0 is none.
    text_len: most text_ids on the left.
    rope_theta_text, rope_theta_grid: longest rotary wavelength / 2 pi of the text axis, and of t, h and w.
    bos_id, eot_id, eov_id, eos_id, pad_id: special text ids that stand between the parts of a strip.
    """

    n_layer: int = 8
    n_head: int = 5
    n_kv_head: int = 5
    d_model: int = 320
    d_ff: int = 864
    text_vocab_size: int = 16384
    text_dim: int = 96
    text_len: int = 64
    codebook_size: int = 4375
    code_levels: tuple[int, ...] = (7, 5, 5, 5, 5)
    grid: tuple[int, ...] = (5, 8, 8)
    scan: str = "quarters"
    gap: int = 0
    rope_theta_text: float = 1000.0
    rope_theta_grid: float = 100.0
    bos_id: int = 0
    eot_id: int = 1
    eov_id: int = 2
    eos_id: int = 3
    pad_id: int = 4

    def __post_init__(self) -> None:
        for name, largest in _LIMITS.items():
            value = getattr(self, name)
            require(
                1 <= value <= largest, ConfigError, "{} is {}; it must lie in 1..{}.", name, value, largest
            )
        require(
            self.d_model % self.n_head == 0,
            ConfigError,
            "d_model ({}) must be a multiple of n_head ({}).",
            self.d_model,
            self.n_head,
        )
        require(
            self.head_dim % 8 == 0,
            ConfigError,
            "d_model / n_head is {}; it must be a multiple of 8: four axes share the rotary pairs of a head.",
            self.head_dim,
        )
        require(
            self.n_head % self.n_kv_head == 0,
            ConfigError,
            "n_head ({}) must be a multiple of n_kv_head ({}).",
            self.n_head,
            self.n_kv_head,
        )
        require(
            len(self.grid) == 3 and all(1 <= size <= 1024 for size in self.grid),
            ConfigError,
            "grid is {}; it must be three sizes (t, h, w), each in 1..1024.",
            list(self.grid),
        )
        require(
            self.scan in SCANS,
            ConfigError,
            "there is no scan {!r}; choose one of {}.",
            self.scan,
            ", ".join(SCANS),
        )
        require(
            isinstance(self.gap, int)
            and not isinstance(self.gap, bool)
            and 0 <= self.gap < self.codes_per_frame,
            ConfigError,
            "gap is {!r}; it must be a whole number, 0 or more and less than the {} codes of a latent frame.",
            self.gap,
            self.codes_per_frame,
        )
        require(
            not self.code_levels or math.prod(self.code_levels) == self.codebook_size,
            ConfigError,
            "code_levels {} multiply to {}, but codebook_size is {}; make them equal, or code_levels empty.",
            list(self.code_levels),
            math.prod(self.code_levels),
            self.codebook_size,
        )
        require(
            all(2 <= level <= 4096 for level in self.code_levels),
            ConfigError,
            "code_levels are {}; each must lie in 2..4096.",
            list(self.code_levels),
        )
        for name in ("rope_theta_text", "rope_theta_grid"):
            value = getattr(self, name)
            require(
                1.0 < value <= 1e9, ConfigError, "{} is {}; it must be above 1, at most 1e9.", name, value
            )
        specials = (self.bos_id, self.eot_id, self.eov_id, self.eos_id, self.pad_id)
        require(
            len(set(specials)) == 5 and all(0 <= i < self.text_vocab_size for i in specials),
            ConfigError,
            "the ids of bos, eot, eov, eos and pad are {}; they must be five different ids below {}.",
            list(specials),
            self.text_vocab_size,
        )

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_head

    @property
    def codes_per_frame(self) -> int:
        return self.grid[1] * self.grid[2]


_LIMITS = {
    "n_layer": 256,
    "n_head": 256,
    "n_kv_head": 256,
    "d_model": 16_384,
    "d_ff": 65_536,
    "text_vocab_size": 1_000_000,
    "text_dim": 16_384,
    "text_len": 8_192,
    "codebook_size": 1_000_000,
}
