"""The whole way from a Russian sentence to a clip: text -> tokenizer -> transformer -> decoder -> frames."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from kinolenta.checkpoint import ModelIndex, demo_folder, load_index, load_into, load_weights
from kinolenta.clip import Clip, Score
from kinolenta.decoder import VideoVQGAN, VQGANConfig
from kinolenta.errors import CheckpointError, ConfigError, PromptError, ShapeError, require
from kinolenta.grid import GridPrompts
from kinolenta.media import check_policy
from kinolenta.pixels import to_float, to_uint8
from kinolenta.prompt import check_prompt, named
from kinolenta.reader import Film, Reader
from kinolenta.request import (
    Options,
    Progress,
    Request,
    check_best_of,
    check_progress,
    check_switches,
    checked_options,
    first_frame_sampling,
    listed_seeds,
    repeated,
)
from kinolenta.tokenizer import TextTokenizer
from kinolenta.transformer import GPT, GPTConfig, SamplingConfig
from kinolenta.transformer.generate import MAX_LATENT_FRAMES
from kinolenta.transformer.precision import check_precision, with_precision

if TYPE_CHECKING:
    from kinolenta.media.geometry import Policy

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class VideoPipeline:
    """A tokenizer, a transformer and a decoder that belong together; makes clips on the CPU.

    The parts are public (``tokenizer``, ``transformer``, ``decoder``, ``index``). A pipeline keeps no state
    between calls, so several threads may share one.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        transformer: GPT,
        decoder: VideoVQGAN,
        index: ModelIndex,
        *,
        precision: str = "float32",
    ) -> None:
        """precision: see ``from_pretrained``. Raises CheckpointError that shows both sides if the three do
        not fit each other, ShapeError if guidance ends where no frame does.
        """
        self.tokenizer, self.index = tokenizer, index
        self.transformer, self.decoder = transformer.eval(), decoder.eval()
        self._check_parts()
        # Weights laid out once for decoding, so that no call pays for it.
        self.transformer, self._int8 = with_precision(self.transformer, precision)
        self._prompts = GridPrompts(
            self.encode,
            (self.height, self.width),
            fps=self.fps,
            time_stride=self.time_stride,
            space_stride=self.decoder.config.space_stride,
        )
        self._reader = Reader(tokenizer, self.transformer, self._prompts, self.num_frames)

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None, *, precision: str = "float32") -> Self:
        """Load a model folder; None is the demo that comes with the package.

        precision: "float32"; "bfloat16", sooner on processors that have units for it; or "int8", weights
        rounded to whole numbers and compiled by PyTorch, for which the first loading takes half a minute.
        Each makes clips of its own, and how they are decoded changes nothing in any. Raises CheckpointError,
        ConfigError for a precision that cannot be, or ShapeError for a default that no clip can have.
        """
        require(
            path is None or isinstance(path, (str, Path)),
            CheckpointError,
            "A model folder is a str or Path; got {!r}.",
            path,
        )
        check_precision(precision)
        folder = demo_folder() if path is None else Path(path)
        index = load_index(folder)
        transformer = _load(folder / "transformer", GPTConfig, GPT)
        decoder = _load(folder / "decoder", VQGANConfig, VideoVQGAN)
        return cls(TextTokenizer.load(folder / "tokenizer"), transformer, decoder, index, precision=precision)

    @property
    def fps(self) -> float:
        """Frames per second of the clips."""
        return self.index.fps

    @property
    def height(self) -> int:
        """Height of the frames in pixels."""
        return self.transformer.config.grid[1] * self.decoder.config.space_stride

    @property
    def width(self) -> int:
        """Width of the frames in pixels."""
        return self.transformer.config.grid[2] * self.decoder.config.space_stride

    @property
    def num_frames(self) -> int:
        """Frames of a clip of the trained length; longer ones are made with a window that slides."""
        return self.decoder.config.num_frames(self.transformer.config.grid[0])

    @property
    def time_stride(self) -> int:
        """Frames per latent frame; a clip has 1 + a multiple of them."""
        return self.decoder.config.time_stride

    @overload
    def __call__(self, prompt: str | None, **options: Unpack[Options]) -> Clip: ...

    @overload
    def __call__(
        self, prompt: list[str | None] | list[str] | tuple[str | None, ...], **options: Unpack[Options]
    ) -> list[Clip]: ...

    def __call__(
        self, prompt: str | Sequence[str | None] | None, **options: Unpack[Options]
    ) -> Clip | list[Clip]:
        """Make a clip of a Russian sentence, or a list of clips of a list of sentences.

        A clip is decided by its sentence, seed and options: alone or in a list, it is the same. None in place
        of a sentence leaves everything to the model. Options:

        seed: 0 to 2^63 - 1, one for all sentences or one each. num_frames: 1 + a multiple of time_stride; 1
        is a picture, more than the trained length (``num_frames``) goes on from the first frame and the last
        ones, see SlidingGeneration. guidance_scale: 1 is no guidance, more follows the sentence more closely;
        guidance_frames: 1 + n * time_stride lets it lead 1 + n latent frames, the first of those to be drawn;
        the others, drawn in half of the rows, follow them. As many as num_frames is all.
        negative_prompt: what guidance leads away from. temperature, top_k, top_p: see SamplingConfig;
        first_frame_temperature, first_frame_top_k, first_frame_top_p: the same of the first frame alone, if
        it shall be drawn otherwise. None takes the model's own default, which is in its ``model_index.json``.

        image: the first frame, given as a path, a PIL image or a uint8 array [H, W, 3]; rows: keep only so
        many of its rows of codes, from the top. last_image: the last frame; keyframes: pictures by the number
        of their frame, a multiple of time_stride. video: a film to go on from, a path or a uint8 array
        [T, H, W, 3] at the model's rate; video_frames: keep only so many of its frames; border: keep only so
        many rows and columns of codes at its four sides. Whole latent frames are kept: 1 + a multiple of
        time_stride. Key frames and borders need a clip of at most the trained length. What is given comes
        back as the decoder sees it, or with keep_pixels=True as it was. resize_policy: how pictures are
        brought to the frame size, "cover", "contain" or "exact".

        best_of: draw so many candidates and return the one with the highest log p(prompt | clip); scorer: a
        function of a clip that takes its place. decoding: "parallel" or "sequential", which make the same
        clip, or "preview", which makes a worse one in fewer passes. window: codes that a parallel pass looks
        at, 1 to 64, instead of as many as pay; any makes the same clip, and the other decodings take none.
        truncate: cut a sentence of too many tokens instead of refusing it. progress: called with (codes
        drawn, codes in all).
        Raises PromptError, MediaError, ShapeError or ConfigError, each in one sentence.
        """
        request = self._request(prompt, **checked_options(options))
        clips = [clip for rows in request.batches() for clip in self._clips(request, rows)]
        clips = [request.best(clips[i : i + request.best_of]) for i in range(0, len(clips), request.best_of)]
        return clips if isinstance(prompt, (list, tuple)) else clips[0]

    def stream(self, prompt: str | None, **options: Unpack[Options]) -> Iterator[NDArray[np.uint8]]:
        """The frames of ``pipe(prompt, **options)`` one by one, uint8 [H, W, 3], each as soon as it is known.

        A latent frame is developed while the codes of the next are still to be drawn. Bad input raises when
        the first frame is asked for.
        """
        require(not isinstance(prompt, (list, tuple)), PromptError, "a stream is of one prompt, not a list.")
        options = checked_options(options)
        one = options.get("best_of", 1) == 1 and "scorer" not in options
        require(one, ConfigError, "a stream is of one clip; it takes no best_of and no scorer.")
        request, rows = self._request(prompt, **options), slice(0, 1)
        stream, shown = self.decoder.stream(), 0
        for codes in request.frames(request.start(self.transformer, rows, self._int8), rows):
            frames = request.pixels(to_uint8(stream.push(codes[:, -1:]))[0], shown)
            shown += len(frames)
            yield from frames

    def caption(self, clip: Film) -> str:
        """What a clip shows, in a Russian sentence.

        clip: from this pipeline, or a film as a path or a uint8 array [T, H, W, 3] at the model's rate, of
        which at most the trained length is looked at. Raises MediaError or ShapeError for what is no film.
        """
        return self._reader.caption(clip)

    def answer(self, clip: Film, question: str) -> str:
        """The answer to a Russian question about a clip, in a word or a few. clip: as in ``caption``.

        The demo learned what is shown, what it does, where it goes, what colour it and the ground have, and
        how many there are (``kinolenta.data.questions``); it says something to other questions too.
        Raises PromptError for a bad question, MediaError or ShapeError for what is no film.
        """
        return self._reader.answer(clip, question)

    def score(self, clip: Film, texts: str | Sequence[str]) -> list[Score]:
        """How well each text fits the clip; see Score. clip: as in ``caption``.

        Raises PromptError for bad texts, MediaError or ShapeError for what is no film.
        """
        return self._reader.score(clip, [texts] if isinstance(texts, str) else texts)

    def _request(
        self,
        prompt: Any,
        *,
        image: Any = None,
        rows: int | None = None,
        last_image: Any = None,
        keyframes: Mapping[int, Any] | None = None,
        video: Any = None,
        video_frames: int | None = None,
        border: int | None = None,
        keep_pixels: bool = False,
        seed: int | Sequence[int] = 0,
        num_frames: int | None = None,
        guidance_scale: float | None = None,
        guidance_frames: int | None = None,
        negative_prompt: str | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        first_frame_temperature: float | None = None,
        first_frame_top_k: int | None = None,
        first_frame_top_p: float | None = None,
        best_of: int = 1,
        scorer: Callable[[Clip], float] | None = None,
        decoding: str = "parallel",
        window: int | None = None,
        resize_policy: "Policy" = "cover",
        truncate: bool = False,
        progress: Progress | None = None,
    ) -> Request:
        prompts = list(prompt) if isinstance(prompt, (list, tuple)) else [prompt]
        check_policy(resize_policy)
        check_best_of(best_of, scorer)
        check_switches(keep_pixels=keep_pixels, truncate=truncate)
        check_progress(progress)
        require(len(prompts) > 0, ConfigError, "The list of prompts is empty; pass at least one.")
        text_ids = [self._encode(one, truncate) for one in prompts]
        seeds = listed_seeds(seed, len(prompts))
        own = self.index.defaults
        guidance_scale = own.guidance_scale if guidance_scale is None else guidance_scale
        led = own.guidance_frames if guidance_frames is None else guidance_frames
        require(
            negative_prompt is None or guidance_scale != 1,
            ConfigError,
            "negative_prompt needs guidance; give a guidance_scale other than 1.",
        )
        away = None
        if negative_prompt is not None:
            away = self._encode(negative_prompt, truncate, "negative_prompt")
        sampling = SamplingConfig(temperature=own.temperature, top_k=own.top_k, top_p=own.top_p)
        sampling = sampling.changed(temperature, top_k, top_p)
        num_latent_frames = self._latent_frames(num_frames)
        given = self._prompts.of(
            image=image,
            rows=rows,
            last_image=last_image,
            keyframes=keyframes,
            video=video,
            video_frames=video_frames,
            border=border,
            num_frames=self.decoder.config.num_frames(num_latent_frames),
            policy=resize_policy,
        )
        require(
            given is None or len(given.given) < num_latent_frames or not bool(given.given.all()),
            ConfigError,
            "all of the clip is given, so nothing is left to draw; ask for more frames (num_frames), or keep "
            "fewer (video_frames).",
        )
        require(
            given is None or given.is_beginning or num_latent_frames <= self.transformer.config.grid[0],
            ShapeError,
            "last and key frames and borders need a clip of at most {} frames, the trained length; got {}. "
            "Ask for fewer (num_frames).",
            self.num_frames,
            self.decoder.config.num_frames(num_latent_frames),
        )
        require(
            best_of == 1 or scorer is not None or None not in prompts,
            ConfigError,
            "best_of chooses by the prompt; give one, or a scorer.",
        )
        return Request(
            prompts=repeated([one or "" for one in prompts], best_of),
            text_ids=repeated(text_ids, best_of),
            seeds=repeated(seeds, best_of),
            candidates=[*range(best_of)] * len(prompts),
            num_latent_frames=num_latent_frames,
            given=given,
            keep_pixels=keep_pixels,
            sampling=sampling,
            first_sampling=first_frame_sampling(
                sampling, first_frame_temperature, first_frame_top_k, first_frame_top_p
            ),
            guidance_scale=guidance_scale,
            guided_latent_frames=None if led is None else self._latent_frames(led, "guidance_frames"),
            negative_ids=away,
            best_of=best_of,
            scorer=scorer,
            decoding=decoding,
            window=window,
            progress=progress,
        )

    def _clips(self, request: Request, rows: slice) -> list[Clip]:
        generation = request.start(self.transformer, rows, self._int8)
        for _ in request.frames(generation, rows):
            pass
        made = generation.result()
        opinion = request.opinion(self.transformer, rows, made)
        return [
            Clip(
                frames=request.pixels(self._develop(codes)),
                fps=self.fps,
                codes=codes.numpy(),
                prompt=request.prompts[rows][row],
                seed=request.seeds[rows][row],
                candidate=request.candidates[rows][row],
                score=None if opinion.gain is None else float(opinion.gain[row]),
                log_prob=float(made.log_prob[row]),
                text_log_prob=None if opinion.text_log_prob is None else float(opinion.text_log_prob[row]),
                passes=made.passes,
            )
            for row, codes in enumerate(made.codes)
        ]

    def reconstruct(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Frames through the VQGAN and back: what the codes keep of them. uint8 [T, H, W, 3] both ways."""
        return self._develop(self.encode(frames))

    def encode(self, frames: NDArray[np.uint8]) -> Tensor:
        """Codes int64 [t, h, w] of frames uint8 [T, H, W, 3], T = 1 + a multiple of time_stride."""
        is_clip = isinstance(frames, np.ndarray) and frames.ndim == 4
        require(is_clip, ShapeError, "frames must be a uint8 array [T, H, W, 3].")
        return self.decoder.encode(to_float(frames[None]))[0]

    def _develop(self, codes: Tensor) -> NDArray[np.uint8]:
        return to_uint8(self.decoder.decode(codes[None]))[0]

    def _encode(self, prompt: str | None, truncate: bool, name: str = "prompt") -> list[int]:
        if prompt is None:
            return []
        text, limit = check_prompt(prompt, name), self.transformer.config.text_len
        with named(name):
            return self.tokenizer.encode(text, max_length=limit, truncate=truncate)

    def _latent_frames(self, num_frames: int | None, name: str = "num_frames") -> int:
        if num_frames is None:
            return self.transformer.config.grid[0]
        whole = isinstance(num_frames, int) and not isinstance(num_frames, bool)
        require(whole, ShapeError, "{} must be a whole number; got {!r}.", name, num_frames)
        most = self.decoder.config.num_frames(MAX_LATENT_FRAMES)
        require(
            num_frames <= most,
            ShapeError,
            "{} is {}; this model makes clips of at most {} frames.",
            name,
            num_frames,
            most,
        )
        what = "clip has" if name == "num_frames" else f"{name} covers"
        return self.decoder.config.num_latent_frames(num_frames, what)

    def _check_parts(self) -> None:
        gpt, vqgan = self.transformer.config, self.decoder.config
        pairs = {
            "codebook_size": (gpt.codebook_size, vqgan.codebook_size),
            "text vocabulary": (gpt.text_vocab_size, self.tokenizer.vocab_size),
            "fps": (self.index.fps, vqgan.fps),
        }
        for name, (one, other) in pairs.items():
            require(
                one == other,
                CheckpointError,
                "The stages of the model do not fit: {} is {} on one side and {} on the other.",
                name,
                one,
                other,
            )
        if (led := self.index.defaults.guidance_frames) is not None:
            self._latent_frames(led, "guidance_frames")


def _load(folder: Path, config_class: Any, module_class: Callable[[Any], ModuleT]) -> ModuleT:
    config, state = load_weights(folder, config_class)
    module = module_class(config)
    load_into(module, state, str(folder / "model.safetensors"))
    return module.requires_grad_(False)
