"""The whole way from a Russian sentence to a clip: text -> tokenizer -> transformer -> decoder -> frames."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn

from kinolenta.checkpoint import ModelIndex, demo_folder, load_index, load_into, load_weights
from kinolenta.clip import Clip
from kinolenta.decoder import VideoVQGAN, VQGANConfig
from kinolenta.errors import CheckpointError, ConfigError, ShapeError, require
from kinolenta.media import check_policy, read_image, resize
from kinolenta.prompt import check_prompt
from kinolenta.request import Options, Progress, Request
from kinolenta.tokenizer import TextTokenizer
from kinolenta.transformer import GPT, GPTConfig, SamplingConfig
from kinolenta.transformer.stable import row_stable

if TYPE_CHECKING:
    from kinolenta.media.geometry import Policy

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class VideoPipeline:
    """A tokenizer, a transformer and a decoder that belong together; makes clips on the CPU in float32.

    The parts are public (``tokenizer``, ``transformer``, ``decoder``, ``index``). A pipeline keeps no state
    between calls, so several threads may share one.
    """

    def __init__(
        self, tokenizer: TextTokenizer, transformer: GPT, decoder: VideoVQGAN, index: ModelIndex
    ) -> None:
        """Raises CheckpointError that shows both sides if the three do not fit each other."""
        self.tokenizer, self.index = tokenizer, index
        # Weights laid out once for decoding, so that no call pays for it.
        self.transformer, self.decoder = row_stable(transformer.eval()), decoder.eval()
        self._check_parts()

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> Self:
        """Load a model folder; None is the demo that comes with the package. Raises CheckpointError."""
        require(
            path is None or isinstance(path, (str, Path)),
            CheckpointError,
            "A model folder is a str or Path; got {!r}.",
            path,
        )
        folder = demo_folder() if path is None else Path(path)
        index = load_index(folder)
        transformer = _load(folder / "transformer", GPTConfig, GPT)
        decoder = _load(folder / "decoder", VQGANConfig, VideoVQGAN)
        return cls(TextTokenizer.load(folder / "tokenizer"), transformer, decoder, index)

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
        """Frames of a clip of the trained length, which is also the most that can be asked for."""
        return self.decoder.config.num_frames(self.transformer.config.grid[0])

    @property
    def time_stride(self) -> int:
        """Frames per latent frame; a clip has 1 + a multiple of them."""
        return self.decoder.config.time_stride

    @overload
    def __call__(self, prompt: str, **options: Unpack[Options]) -> Clip: ...

    @overload
    def __call__(self, prompt: list[str] | tuple[str, ...], **options: Unpack[Options]) -> list[Clip]: ...

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        image: Any = None,
        seed: int | Sequence[int] = 0,
        num_frames: int | None = None,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        decoding: str = "parallel",
        resize_policy: "Policy" = "cover",
        truncate: bool = False,
        progress: Progress | None = None,
    ) -> Clip | list[Clip]:
        """Make a clip of a Russian sentence, or a list of clips of a list of sentences.

        A clip is decided by its sentence, seed and options: alone or in a list, it is the same.
        image: the first frame, given as a path, a PIL image or a uint8 array [H, W, 3]; it comes back as the
        decoder sees it. resize_policy: how it is brought to the frame size, "cover", "contain" or "exact".
        seed: 0 to 2^63 - 1, one for all sentences or one each. num_frames: 1 + a multiple of time_stride, at
        most the trained length. guidance_scale: 1 is no guidance, more follows the sentence more closely.
        temperature, top_k, top_p: see SamplingConfig. None takes the model's own default, which is in its
        ``model_index.json``. decoding: "parallel" or "sequential", which make the same clip, or "preview",
        which makes a worse one in fewer passes. truncate: cut a sentence of too many tokens instead of
        refusing it. Raises PromptError, MediaError, ShapeError or ConfigError, each in one sentence.
        """
        request = self._request(
            prompt,
            image=image,
            seed=seed,
            num_frames=num_frames,
            guidance_scale=guidance_scale,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            decoding=decoding,
            resize_policy=resize_policy,
            truncate=truncate,
            progress=progress,
        )
        clips = [clip for rows in request.batches() for clip in self._clips(request, rows)]
        return clips[0] if isinstance(prompt, str) else clips

    def stream(self, prompt: str, **options: Unpack[Options]) -> Iterator[NDArray[np.uint8]]:
        """The frames of ``pipe(prompt, **options)`` one by one, uint8 [H, W, 3], each as soon as it is known.

        A latent frame is developed while the codes of the next are still to be drawn. Bad input raises when
        the first frame is asked for.
        """
        request = self._request(check_prompt(prompt), **options)
        rows, stream = slice(0, 1), self.decoder.stream()
        for codes in request.frames(request.start(self.transformer, rows), rows):
            yield from _to_uint8(stream.push(codes[:, -1:])[0])

    def _request(
        self,
        prompt: Any,
        *,
        image: Any = None,
        seed: int | Sequence[int] = 0,
        num_frames: int | None = None,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        decoding: str = "parallel",
        resize_policy: "Policy" = "cover",
        truncate: bool = False,
        progress: Progress | None = None,
    ) -> Request:
        prompts = list(prompt) if isinstance(prompt, (list, tuple)) else [check_prompt(prompt)]
        check_policy(resize_policy)
        require(len(prompts) > 0, ConfigError, "The list of prompts is empty; pass at least one.")
        defaults = self.index.defaults
        return Request(
            prompts=prompts,
            seeds=self._seeds(seed, len(prompts)),
            text_ids=[self._encode(one, truncate) for one in prompts],
            num_latent_frames=self._latent_frames(num_frames),
            known=None if image is None else self._first_codes(image, resize_policy),
            sampling=SamplingConfig(
                temperature=defaults.temperature if temperature is None else temperature,
                top_k=defaults.top_k if top_k is None else top_k,
                top_p=defaults.top_p if top_p is None else top_p,
            ),
            guidance_scale=defaults.guidance_scale if guidance_scale is None else guidance_scale,
            decoding=decoding,
            progress=progress,
        )

    def _clips(self, request: Request, rows: slice) -> list[Clip]:
        generation = request.start(self.transformer, rows)
        for _ in request.frames(generation, rows):
            pass
        made = generation.result()
        without = made.log_prob_uncond
        return [
            Clip(
                frames=self._develop(codes),
                fps=self.fps,
                codes=codes.numpy(),
                prompt=request.prompts[rows][row],
                seed=request.seeds[rows][row],
                score=None if without is None else float(made.log_prob[row] - without[row]),
                log_prob=float(made.log_prob[row]),
                passes=made.passes,
            )
            for row, codes in enumerate(made.codes)
        ]

    def reconstruct(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Frames through the VQGAN and back: what the codes keep of them. uint8 [T, H, W, 3] both ways."""
        return self._develop(self.decoder.encode(_to_float(frames))[0])

    def encode(self, frames: NDArray[np.uint8]) -> Tensor:
        """Codes int64 [t, h, w] of frames uint8 [T, H, W, 3], T = 1 + a multiple of time_stride."""
        return self.decoder.encode(_to_float(frames))[0]

    def _develop(self, codes: Tensor) -> NDArray[np.uint8]:
        return _to_uint8(self.decoder.decode(codes[None])[0])

    def _encode(self, prompt: str, truncate: bool) -> list[int]:
        limit = self.transformer.config.text_len
        return self.tokenizer.encode(check_prompt(prompt), max_length=limit, truncate=truncate)

    def _first_codes(self, image: Any, policy: "Policy") -> Tensor:
        """Codes [1, h * w] of the first frame."""
        frame = resize(read_image(image)[None], (self.height, self.width), policy)
        return self.encode(frame).flatten()[None]

    def _latent_frames(self, num_frames: int | None) -> int:
        if num_frames is None:
            return self.transformer.config.grid[0]
        whole = isinstance(num_frames, int) and not isinstance(num_frames, bool)
        require(whole, ShapeError, "num_frames must be a whole number; got {!r}.", num_frames)
        require(
            num_frames <= self.num_frames,
            ShapeError,
            "clip of {} frames is asked for; this model makes at most {}.",
            num_frames,
            self.num_frames,
        )
        return self.decoder.config.num_latent_frames(num_frames)

    def _seeds(self, seed: Any, count: int) -> list[int]:
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


def _load(folder: Path, config_class: Any, module_class: Callable[[Any], ModuleT]) -> ModuleT:
    config, state = load_weights(folder, config_class)
    module = module_class(config)
    load_into(module, state, str(folder / "model.safetensors"))
    return module.requires_grad_(False)


def _to_float(frames: NDArray[np.uint8]) -> Tensor:
    """uint8 [T, H, W, 3] to float [1, 3, T, H, W] in [-1, 1]. Raises ShapeError for anything else."""
    require(
        isinstance(frames, np.ndarray)
        and frames.ndim == 4
        and frames.shape[-1] == 3
        and frames.dtype == np.uint8,
        ShapeError,
        "frames must be a uint8 array [T, H, W, 3]; got {}.",
        f"{frames.dtype} {list(frames.shape)}" if isinstance(frames, np.ndarray) else type(frames).__name__,
    )
    return (
        rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "t h w c -> 1 c t h w").float() / 127.5 - 1
    )


def _to_uint8(frames: Tensor) -> NDArray[np.uint8]:
    """float [3, T, H, W] in [-1, 1] to uint8 [T, H, W, 3]."""
    scaled = ((frames + 1) * 127.5).round().to(torch.uint8)
    return rearrange(scaled, "c t h w -> t h w c").contiguous().numpy()
