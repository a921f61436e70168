"""Captions in, codes out: the rows of the batch, and what decodes them."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kinolenta.errors import ConfigError, ShapeError, require
from kinolenta.kernels.inference import inference
from kinolenta.transformer.cache import prefill
from kinolenta.transformer.decoding import FixedPoint
from kinolenta.transformer.gpt import GPT
from kinolenta.transformer.int8 import Int8Stack
from kinolenta.transformer.layout import SequenceLayout
from kinolenta.transformer.memory import check_memory
from kinolenta.transformer.noise import check_stream
from kinolenta.transformer.sampler import SamplingConfig
from kinolenta.transformer.stable import row_stable
from kinolenta.transformer.window import MAX_WINDOW, Window

MAX_LATENT_FRAMES = 1024
DECODINGS = ("parallel", "sequential", "preview")
DEVICE_WINDOW = 32  # drafts a pass of a GPU
PREVIEW_CODES = 16  # codes a pass that a preview makes final, come what may
PREVIEW_WINDOW = 2 * PREVIEW_CODES


class Generated(NamedTuple):
    """A batch of generated clips.

    codes: [b, t, h, w] int64, the latent frames of the order, earliest first.
    log_prob: [b] float64, log p(drawn codes | text, known codes) under the model itself: temperature 1, no
    guidance. log_prob_uncond: the same without text, None unless guidance has led all of them.
    passes: how often the transformer ran over windows of codes, and one more for the texts.
    """

    codes: Tensor
    log_prob: Tensor
    log_prob_uncond: Tensor | None
    passes: int


@inference
def generate(
    model: GPT,
    text_ids: Sequence[Sequence[int]],
    *,
    seeds: Sequence[int],
    candidates: Sequence[int] | None = None,
    known_codes: Tensor | None = None,
    order: Tensor | None = None,
    num_latent_frames: int | None = None,
    sampling: SamplingConfig | None = None,
    first_sampling: SamplingConfig | None = None,
    guidance_scale: float = 1.0,
    guided_latent_frames: int | None = None,
    negative_text_ids: Sequence[Sequence[int]] | None = None,
    decoding: str = "parallel",
    window: int | None = None,
    int8: Int8Stack | None = None,
    on_frame: Callable[[int, Tensor], None] | None = None,
) -> Generated:
    """Draw a clip for each text; a clip depends on its own text, seed, candidate and known codes only.

    seeds, candidates: one of each per text (candidates default to 0); together they name the random stream.
    known_codes: [b, k] int64, the first k codes of the order, which the clips keep exactly; or a beginning of
    the clips, [b, t, h, w].
    order: [n] int64, the raster index of every code in the order in which they are drawn; whole latent
    frames, not necessarily from the first on. None is frame after frame, each in the model's scan, from the
    first of num_latent_frames on, the trained length unless given.
    sampling, first_sampling: how codes are drawn, and how those of the first latent frame are, if otherwise.
    guidance_scale: 1 is none; logits = uncond + scale * (cond - uncond), Ho & Salimans, arXiv:2207.12598.
    guided_latent_frames: how many latent frames guidance leads, the first of those that hold codes to be
    drawn; None is all. The others have one row a clip instead of two.
    negative_text_ids: what guidance leads away from, a text for each row; nothing in particular unless given.
    decoding: "parallel" looks at ``window`` codes a pass (by default at 8 to 64, as far as that pays, and at
    fewer of each clip in a batch; of a model with a gap at one more than that), "sequential" at one; their
    codes are the same. "preview" looks at 32 and takes at least 16 a pass, right or wrong. With these two a
    window is an error.
    int8: what ``int8_stack_of`` makes of the model, to draw with rounded weights: other clips, sooner.
    on_frame: called with (t, codes [b, t + 1, h, w]) when a latent frame is complete, known or drawn.
    Raises PromptError, ShapeError or ConfigError for bad input, GenerationError if logits are not numbers.
    """
    generation = Generation(
        model,
        text_ids,
        seeds=seeds,
        candidates=candidates,
        known_codes=known_codes,
        order=order,
        num_latent_frames=num_latent_frames,
        sampling=sampling,
        first_sampling=first_sampling,
        guidance_scale=guidance_scale,
        guided_latent_frames=guided_latent_frames,
        negative_text_ids=negative_text_ids,
        decoding=decoding,
        window=window,
        int8=int8,
    )
    for t, codes in generation.frames():
        if on_frame is not None:
            on_frame(t, codes)
    return generation.result()


class Generation:
    """A generation that is under way: its latent frames one after the other, then the whole."""

    @inference
    def __init__(
        self,
        model: GPT,
        text_ids: Sequence[Sequence[int]],
        *,
        seeds: Sequence[int],
        candidates: Sequence[int] | None = None,
        known_codes: Tensor | None = None,
        order: Tensor | None = None,
        num_latent_frames: int | None = None,
        sampling: SamplingConfig | None = None,
        first_sampling: SamplingConfig | None = None,
        guidance_scale: float = 1.0,
        guided_latent_frames: int | None = None,
        negative_text_ids: Sequence[Sequence[int]] | None = None,
        decoding: str = "parallel",
        window: int | None = None,
        int8: Int8Stack | None = None,
    ) -> None:
        """The arguments of ``generate``, and its errors; runs the texts."""
        config, batch = model.config, len(text_ids)
        candidates = [0] * batch if candidates is None else candidates
        frames = config.grid[0] if num_latent_frames is None else num_latent_frames
        if order is not None:
            _check_order(order, config.codes_per_frame, num_latent_frames)
            frames = len(order) // config.codes_per_frame
        _check(batch, seeds, candidates, frames, guidance_scale, guided_latent_frames)
        order = model.layout.order(range(frames)) if order is None else order
        require(
            isinstance(decoding, str) and decoding in DECODINGS,
            ConfigError,
            "there is no decoding {!r}; choose one of {}.",
            decoding,
            ", ".join(DECODINGS),
        )
        guided = guidance_scale != 1
        require(
            window is None
            or (isinstance(window, int) and not isinstance(window, bool) and 1 <= window <= MAX_WINDOW),
            ConfigError,
            "window is {!r}; it must be a whole number in 1..{}.",
            window,
            MAX_WINDOW,
        )
        require(
            window is None or decoding == "parallel",
            ConfigError,
            "window is for decoding 'parallel'; {!r} looks at {} a pass. Leave window out.",
            decoding,
            "one code" if decoding == "sequential" else f"{PREVIEW_WINDOW} codes",
        )
        num_codes = len(order)
        known = standing_known(model.layout, known_codes, order, batch)
        num_known = known.shape[1]
        require(
            negative_text_ids is None or (guided and len(negative_text_ids) == batch),
            ConfigError,
            "negative texts need guidance (a guidance_scale other than 1), and one for each text.",
        )
        require(
            int8 is None or int8.norm.data_ptr() == model.norm.weight.data_ptr(),
            ConfigError,
            "int8 was made of another model; pass int8_stack_of of this one.",
        )
        led = _led(order, num_known, config.codes_per_frame, guided_latent_frames if guided else 0)
        self._scored = guided and bool(led[num_known:].all())
        texts, copies = [*text_ids], 1
        if bool(led.any()):
            negative = [()] * batch if negative_text_ids is None else negative_text_ids
            texts, copies = [*texts, *negative], 2
        sized = Window(num_codes, window_of(decoding, window, model))
        check_memory(config, len(texts), num_codes, sized.most(batch), model.kind)
        strip = model.layout.pack_prefill(texts, order=order).to(model.kind.device)
        model = row_stable(model)
        cache, logits = prefill(model, strip, copies, int8)
        cache.codes[:, :num_known] = known.to(cache.codes.device)
        self._decoder = FixedPoint(
            model,
            cache,
            logits,
            order,
            streams=list(zip(seeds, candidates, strict=True)),
            num_known=num_known,
            sampling=sampling or SamplingConfig(),
            first_sampling=first_sampling,
            guidance_scale=guidance_scale,
            led=led,
            window=sized,
            least=PREVIEW_CODES if decoding == "preview" else 1,
        )
        self._codes, self._sorted = cache.codes, order.argsort().to(cache.codes.device)
        self._shape = (batch, frames, *config.grid[1:])

    @property
    def _clips(self) -> Tensor:
        return self._codes[:, self._sorted].view(self._shape)

    @inference
    def frames(self) -> Iterator[tuple[int, Tensor]]:
        """(t, codes [b, t + 1, h, w]) for every latent frame as soon as all clips have it."""
        announced = 0
        for complete in self._decoder.run():
            for t in range(announced, complete):
                yield t, self._clips[:, : t + 1]
            announced = complete

    def result(self) -> Generated:
        """The clips, when ``frames`` is exhausted."""
        log_prob, log_prob_uncond = self._decoder.log_probs.sum(-1)
        return Generated(
            self._clips, log_prob, log_prob_uncond if self._scored else None, self._decoder.passes
        )


def standing_known(layout: SequenceLayout, codes: Tensor | None, order: Tensor, batch: int) -> Tensor:
    """Known codes as they stand in this order, [b, k]. Raises ShapeError if there are more than it names."""
    width = layout.checked_codes(codes, batch).shape[1]
    require(width <= len(order), ShapeError, "{} codes are known but the clip has {}.", width, len(order))
    return layout.standing(codes, order, batch)


def window_of(decoding: str, window: int | None, model: GPT) -> int | None:
    """The drafts that a pass looks at; None follows the drafts. window: what is asked for."""
    if decoding == "sequential":
        return 1
    if decoding == "preview":
        return PREVIEW_WINDOW
    if window is None and model.config.gap:  # so many codes are right at the first look
        return min(model.config.gap + 1, MAX_WINDOW)
    if window is None and model.kind.device.type != "cpu":  # graphs of passes are of one shape; never timed
        return DEVICE_WINDOW
    return window


def _led(order: Tensor, num_known: int, per_frame: int, frames: int | None) -> Tensor:
    """Which codes of the order guidance leads, bool [n]: those of so many latent frames, the first of those
    that hold codes to be drawn.
    """
    drawn = (order[num_known:] // per_frame).unique()
    return torch.isin(order // per_frame, drawn if frames is None else drawn[:frames])


def _check(
    batch: int,
    seeds: Sequence[int],
    candidates: Sequence[int],
    num_latent_frames: int,
    guidance_scale: float,
    guided_latent_frames: int | None,
) -> None:
    require(batch >= 1, ConfigError, "text_ids is an empty list; pass at least one text.")
    for name, values in (("seeds", seeds), ("candidates", candidates)):
        listed = isinstance(values, Sequence)
        require(listed, ConfigError, "{} must be a list of numbers; got {!r}.", name, values)
        require(
            len(values) == batch, ConfigError, "{} texts but {} {}; pass one each.", batch, len(values), name
        )
    for seed, candidate in zip(seeds, candidates, strict=True):
        check_stream(seed, candidate)
    require(
        1 <= num_latent_frames <= MAX_LATENT_FRAMES,
        ConfigError,
        "num_latent_frames is {}; it must lie in 1..{}.",
        num_latent_frames,
        MAX_LATENT_FRAMES,
    )
    require(
        isinstance(guidance_scale, (int, float))
        and not isinstance(guidance_scale, bool)
        and 0 <= guidance_scale <= 100,
        ConfigError,
        "guidance_scale is {!r}; it must lie in 0..100, where 1 means no guidance.",
        guidance_scale,
    )
    require(
        guided_latent_frames is None
        or (
            isinstance(guided_latent_frames, int)
            and not isinstance(guided_latent_frames, bool)
            and guided_latent_frames >= 0
        ),
        ConfigError,
        "guided_latent_frames is {!r}; it must be a whole number, 0 or more, or None.",
        guided_latent_frames,
    )


def _check_order(order: Tensor, per_frame: int, num_latent_frames: int | None) -> None:
    listed = isinstance(order, Tensor) and order.dtype == torch.int64 and order.ndim == 1
    require(listed, ShapeError, "order must be an int64 tensor [n].")
    whole = order.sort().values.view(-1, per_frame) if len(order) % per_frame == 0 else None
    require(
        whole is not None
        and len(whole) > 0
        and int(whole.min()) >= 0
        and int(whole.max()) < MAX_LATENT_FRAMES * per_frame
        and bool((whole[:, 0] % per_frame == 0).all())
        and bool((whole == whole[:, :1] + torch.arange(per_frame)).all())
        and len(whole[:, 0].unique()) == len(whole),
        ShapeError,
        "order must name every code of some of the first {} latent frames once; it names {} by raster index.",
        MAX_LATENT_FRAMES,
        len(order),
    )
    require(
        num_latent_frames is None or num_latent_frames == len(order) // per_frame,
        ShapeError,
        "order names {} latent frames, num_latent_frames is {}.",
        len(order) // per_frame,
        num_latent_frames,
    )
