"""What one call of the pipeline asks for, checked and brought to the transformer's terms."""

import difflib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinolenta.clip import Clip
from kinolenta.errors import ConfigError, require
from kinolenta.grid import GridPrompt
from kinolenta.transformer import (
    GPT,
    Generated,
    Generation,
    Int8Stack,
    SamplingConfig,
    SequenceLayout,
    SlidingGeneration,
    code_log_probs,
    text_log_probs,
)

if TYPE_CHECKING:
    from kinolenta.media.geometry import Policy

MAX_BATCH = 16  # prompts drawn side by side; a longer list is cut, with no change to any clip
MAX_CANDIDATES = 256
Progress = Callable[[int, int], None]  # called with (codes drawn, codes in all)

T = TypeVar("T")


class Options(TypedDict, total=False):
    """The keyword arguments of a call; ``VideoPipeline.__call__`` says what each of them means."""

    image: Any
    rows: int | None
    last_image: Any
    keyframes: Mapping[int, Any] | None
    video: Any
    video_frames: int | None
    border: int | None
    keep_pixels: bool
    seed: int | Sequence[int]
    num_frames: int | None
    guidance_scale: float | None
    guidance_frames: int | None
    negative_prompt: str | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    first_frame_temperature: float | None
    first_frame_top_k: int | None
    first_frame_top_p: float | None
    best_of: int
    scorer: Callable[[Clip], float] | None
    decoding: str
    window: int | None
    resize_policy: "Policy"
    truncate: bool
    progress: Progress | None


class Opinion(NamedTuple):
    """What the model thinks of generated clips, [b] each; None where it was not computed.

    gain: log p(codes | prompt) - log p(codes | nothing) of the codes that were drawn; text_log_prob:
    log p(prompt | codes).
    """

    gain: Tensor | None
    text_log_prob: Tensor | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """Prompts with their ids, seeds and numbers as candidates, and what holds for all of them.

    given: what every clip keeps, or None; keep_pixels: not only its codes.
    """

    prompts: list[str]
    text_ids: list[list[int]]
    seeds: list[int]
    candidates: list[int]
    given: GridPrompt | None
    keep_pixels: bool
    num_latent_frames: int
    sampling: SamplingConfig
    first_sampling: SamplingConfig
    guidance_scale: float
    guided_latent_frames: int | None
    negative_ids: list[int] | None
    best_of: int
    scorer: Callable[[Clip], float] | None
    decoding: str
    window: int | None
    progress: Progress | None

    def batches(self) -> Iterator[slice]:
        """Rows that are generated side by side."""
        for start in range(0, len(self.prompts), MAX_BATCH):
            yield slice(start, min(start + MAX_BATCH, len(self.prompts)))

    def start(
        self, transformer: GPT, rows: slice, int8: Int8Stack | None = None
    ) -> Generation | SlidingGeneration:
        """The generation of some of the prompts; raises what ``Generation`` does."""
        count, given, config = rows.stop - rows.start, self.given, transformer.config
        order, layout = self.order(transformer.layout), transformer.layout
        known = None
        if given is not None:
            known = given.known_codes(layout.order(range(self.num_latent_frames))).expand(count, -1)
        options: dict[str, Any] = {
            "seeds": self.seeds[rows],
            "candidates": self.candidates[rows],
            "sampling": self.sampling,
            "first_sampling": None if self.first_sampling == self.sampling else self.first_sampling,
            "guidance_scale": self.guidance_scale,
            "guided_latent_frames": self.guided_latent_frames,
            "negative_text_ids": None if self.negative_ids is None else [self.negative_ids] * count,
            "decoding": self.decoding,
            "window": self.window,
            "int8": int8,
        }
        frames, texts = self.num_latent_frames, self.text_ids[rows]
        kind = Generation if frames <= config.grid[0] else SlidingGeneration
        return kind(transformer, texts, known_codes=known, order=order, num_latent_frames=frames, **options)

    def order(self, layout: SequenceLayout) -> Tensor:
        """The raster index of each code as they are drawn; of a clip longer than trained its beginning's."""
        trained = layout.config.grid[0]
        order = layout.order(range(min(self.num_latent_frames, trained)))
        if self.given is None or len(self.given.given) > trained:
            return order
        return self.given.first(order)

    def opinion(self, transformer: GPT, rows: slice, made: Generated) -> Opinion:
        """As far as drawing has computed it or choosing the best of several asks for it.

        Each clip is looked at by itself: what is thought of it depends on its neighbours in no bit.
        """
        chosen, negative = self.best_of > 1, self.negative_ids is not None
        without = None if negative else made.log_prob_uncond
        drawn = self.drawn(made.codes.shape[1])
        if without is None and (negative or chosen):
            order = self.order(transformer.layout)
            nats = torch.cat([code_log_probs(transformer, [[]], clip, order) for clip in made.codes.split(1)])
            without = (nats * drawn).sum((1, 2, 3))
        said = None
        if chosen:
            first = int(drawn.expand(made.codes.shape[1:]).flatten(1).any(1).nonzero()[0])
            pairs = zip(self.text_ids[rows], made.codes.split(1), strict=True)
            said = torch.cat([text_log_probs(transformer, [ids], clip, first) for ids, clip in pairs])
        return Opinion(None if without is None else made.log_prob - without, said)

    def best(self, clips: Sequence[Clip]) -> Clip:
        """The candidate that the model reads the prompt from most easily; the first of equals."""
        return clips[0] if len(clips) == 1 else max(clips, key=self._score)

    def _score(self, clip: Clip) -> float:
        found = clip.text_log_prob if self.scorer is None else self.scorer(clip)
        number = isinstance(found, (int, float, np.integer, np.floating)) and abs(found) <= sys.float_info.max
        shown = " ".join(repr(found).split())
        require(number, ConfigError, "scorer must return a number for every clip; got {}.", shown)
        return float(found)  # type: ignore[arg-type]

    def drawn(self, num_latent_frames: int) -> Tensor:
        """1 where a code was drawn, 0 where it was given, [t, h, w] or what broadcasts to it."""
        if self.given is None:
            return torch.ones(())
        drawn = torch.ones(num_latent_frames, *self.given.given.shape[1:])
        drawn[: len(self.given.given)] -= self.given.given.float()
        return drawn

    def pixels(self, frames: NDArray[np.uint8], first: int = 0) -> NDArray[np.uint8]:
        """Developed frames, ``first`` and on, as the clip shows them."""
        return frames if self.given is None or not self.keep_pixels else self.given.keep(frames, first)

    def frames(self, generation: Generation | SlidingGeneration, rows: slice) -> Iterator[Tensor]:
        """Codes [b, t + 1, h, w] after each latent frame t, reported to ``progress`` on the way."""
        for _, codes in generation.frames():
            if self.progress is not None:
                per_clip = codes[0, 0].numel() * self.num_latent_frames
                done = rows.start * per_clip + codes.numel()
                self.progress(done, len(self.prompts) * per_clip)
            yield codes


def checked_options(options: Options) -> Options:
    """The options with NumPy's numbers as Python's, which is what the checks know, and without those that
    are None: the default. Raises TypeError for a name that is none of them, as Python does.
    """
    for name in sorted(options.keys() - Options.__annotations__):
        alike = difflib.get_close_matches(name, Options.__annotations__, 1)
        hint = f"did you mean {alike[0]!r}?" if alike else f"there are {', '.join(Options.__annotations__)}."
        raise TypeError(f"there is no option {name!r}; {hint}")
    plain = {
        name: value.item() if isinstance(value, (np.integer, np.floating)) else value
        for name, value in options.items()
        if value is not None
    }
    return cast("Options", plain)


def first_frame_sampling(
    sampling: SamplingConfig, temperature: float | None, top_k: int | None, top_p: float | None
) -> SamplingConfig:
    """The sampling of the first frame, where it is otherwise. Raises ConfigError in the option's name."""
    try:
        return sampling.changed(temperature, top_k, top_p)
    except ConfigError as error:
        raise ConfigError(f"first_frame_{error}") from error


def repeated(values: Sequence[T], times: int) -> list[T]:
    """Each value so many times in a row."""
    return [value for value in values for _ in range(times)]


def check_switches(**switches: object) -> None:
    """Raise ConfigError unless every value is True or False."""
    for name, value in switches.items():
        require(isinstance(value, bool), ConfigError, "{} is {!r}; it must be True or False.", name, value)


def check_progress(progress: object) -> None:
    """Raise ConfigError unless it can be called."""
    require(
        progress is None or callable(progress),
        ConfigError,
        "progress must be a function of two numbers; got {!r}.",
        progress,
    )


def listed_seeds(seed: Any, count: int) -> list[int]:
    """A seed for each of so many prompts, from one or from a list. Raises ConfigError."""
    seeds = list(seed) if isinstance(seed, (list, tuple)) else [seed] * count
    seeds = [int(one) if isinstance(one, np.integer) else one for one in seeds]
    require(
        len(seeds) == count,
        ConfigError,
        "The number of seeds is {}, that of prompts {}; pass one seed, or one each.",
        len(seeds),
        count,
    )
    return seeds


def check_best_of(best_of: object, scorer: object) -> None:
    """Raise ConfigError unless best_of is a number of candidates and scorer can be called."""
    require(
        isinstance(best_of, int) and not isinstance(best_of, bool) and 1 <= best_of <= MAX_CANDIDATES,
        ConfigError,
        "best_of is {!r}; it must be a whole number in 1..{}.",
        best_of,
        MAX_CANDIDATES,
    )
    require(
        scorer is None or callable(scorer),
        ConfigError,
        "scorer must be a function of a clip; got {!r}.",
        scorer,
    )
    require(
        scorer is None or best_of != 1,
        ConfigError,
        "scorer chooses among candidates; ask for some with best_of, 2 or more.",
    )
