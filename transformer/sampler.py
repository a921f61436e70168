"""From logits to one code: temperature, top-k and top-p, then the largest of logit plus Gumbel noise.

argmax(logits + gumbel) is an exact draw from softmax(logits) (Gumbel 1954), and a function of its inputs
alone.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from kinolenta.config import Config
from kinolenta.errors import ConfigError, GenerationError, require

LEAST_TEMPERATURE = 1e-4  # below it, quotients overflow


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """How codes are drawn.

    temperature: divides the logits; 0 always takes the likeliest code. top_k: only the k likeliest codes.
    top_p: only the likeliest codes that together hold probability top_p (after top_k). None: no restriction.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        _in_range("temperature", self.temperature, 0.0, 100.0)
        require(
            self.temperature == 0 or self.temperature >= LEAST_TEMPERATURE,
            ConfigError,
            "temperature is {!r}; above 0 it must be {} or more, for 0 already takes the likeliest code.",
            self.temperature,
            LEAST_TEMPERATURE,
        )
        if self.top_k is not None:
            require(
                isinstance(self.top_k, int),
                ConfigError,
                "top_k is {!r}; it must be a whole number.",
                self.top_k,
            )
            _in_range("top_k", self.top_k, 1, 1_000_000)
        if self.top_p is not None:
            _in_range("top_p", self.top_p, 1e-6, 1.0)

    def changed(self, temperature: float | None, top_k: int | None, top_p: float | None) -> "SamplingConfig":
        """The same, but for what is not None."""
        return SamplingConfig(
            temperature=self.temperature if temperature is None else temperature,
            top_k=self.top_k if top_k is None else top_k,
            top_p=self.top_p if top_p is None else top_p,
        )


def warp(logits: Tensor, sampling: SamplingConfig) -> Tensor:
    """Logits [..., codebook_size] after temperature, with -inf at the codes that top_k and top_p rule out.

    The likeliest code always stays. With temperature 0 the logits are returned as they are.
    """
    if sampling.temperature == 0:
        return logits
    warped = logits if sampling.temperature == 1 else logits / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        smallest = warped.topk(sampling.top_k).values[..., -1:]
        warped = warped.masked_fill(warped < smallest, -math.inf)
    if sampling.top_p is not None and sampling.top_p < 1:
        ordered, order = warped.sort(dim=-1, descending=True)
        probability = ordered.softmax(-1)
        likelier = probability.cumsum(-1) - probability  # held by the codes before this one
        warped = warped.masked_fill((likelier >= sampling.top_p).gather(-1, order.argsort(-1)), -math.inf)
    return warped


def draw(logits: Tensor, noise: Tensor | None, sampling: SamplingConfig, places: Tensor) -> Tensor:
    """Codes [...] at raster indices places [...] from logits and noise, both [..., codebook_size].

    Raises GenerationError if a row is not numbers, or rules out every code: argmax would return code 0.
    """
    warped = warp(logits, sampling)
    scores = warped if noise is None or sampling.temperature == 0 else warped + noise
    codes = scores.argmax(-1)  # not a number counts as the largest
    chosen = scores.take_along_dim(codes[..., None], -1)[..., 0]
    if not math.isfinite(float(chosen.sum())):
        _check_finite(chosen.isfinite(), logits, places, sampling)
    return codes


def _check_finite(finite: Tensor, logits: Tensor, places: Tensor, sampling: SamplingConfig) -> None:
    """finite: whether the largest score of each place is a number."""
    if bool(finite.all()):  # their sum alone is too large
        return
    place, bad = int(places[~finite].min()), logits[~finite]
    damaged = float((~bad.isfinite()).double().mean())
    what = (
        f"logits of code {place} are not finite in {damaged:.1%} of their values"
        if damaged
        else f"logits of code {place} reach {float(bad.abs().max()):.1e}, too far for a temperature of "
        f"{sampling.temperature:g}"
    )
    raise GenerationError(
        f"{what}, so none can be drawn. The model's weights are damaged, or guidance_scale is too large."
    )


def _in_range(name: str, value: float, smallest: float, largest: float) -> None:
    valid = not isinstance(value, bool) and isinstance(value, (int, float)) and smallest <= value <= largest
    require(valid, ConfigError, "{} is {!r}; it must lie in {}..{}.", name, value, smallest, largest)
