"""What of a clip is given: pictures, the top of one, a film or its rim, as codes on the grid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinolenta.errors import ConfigError, MediaError, ShapeError, require
from kinolenta.media import read_image, read_video, resample, resize
from kinolenta.transformer.scan import given_first

if TYPE_CHECKING:
    from kinolenta.media.geometry import Policy

MAX_ASPECT = 16  # of a picture's sides: of a longer one nothing would be left


@dataclass(frozen=True, eq=False, kw_only=True)
class GridPrompt:
    """Codes that a clip shall keep, and the pixels that they came from.

    codes: int64 [t, h, w], without meaning where nothing is given. given: bool [t, h, w].
    frames: uint8 [T, H, W, 3] with T = 1 + time_stride * (t - 1), the pixels at the size of the clip.
    pictured: bool [T], the frames of which there are pixels; a key frame is one of the four of its codes.
    """

    codes: Tensor
    given: Tensor
    frames: NDArray[np.uint8]
    pictured: NDArray[np.bool_]

    def __post_init__(self) -> None:
        assert self.codes.shape == self.given.shape and bool(self.given.any())
        assert len(self.pictured) == len(self.frames)

    @property
    def is_beginning(self) -> bool:
        """Whether nothing is given after something that is not."""
        flat = self.given.flatten()
        return not bool((~flat[:-1] & flat[1:]).any())

    def first(self, order: Tensor) -> Tensor:
        """The order of a clip's codes, raster indices [n], with the given ones first.

        Raises ShapeError if they do not fit.
        """
        num_latent_frames = len(order) // self.given[0].numel()
        require(
            len(self.given) <= num_latent_frames,
            ShapeError,
            "{} latent frames are given, but the clip has {}; give fewer frames, or ask for more.",
            len(self.given),
            num_latent_frames,
        )
        wanted = torch.zeros(num_latent_frames, *self.given.shape[1:], dtype=torch.bool)
        wanted[: len(self.given)] = self.given
        return given_first(order, wanted)

    def known_codes(self, order: Tensor) -> Tensor:
        """The given codes as they stand in the order that ``first`` makes, [1, k]."""
        there = self.first(order)[: int(self.given.sum())]
        return self.codes.flatten()[there][None]

    def keep(self, frames: NDArray[np.uint8], first: int = 0) -> NDArray[np.uint8]:
        """Frames ``first`` and on of a clip [n, H, W, 3], with the given pixels put back as they were."""
        pixels = self.frames[first : first + len(frames)]
        side = self.frames.shape[1] // self.given.shape[1]
        stride = (len(self.frames) - 1) // (len(self.given) - 1) if len(self.given) > 1 else 1
        latent = -(-np.arange(first, first + len(pixels)) // stride)  # the first frame is one of its own
        mask = np.kron(self.given.numpy()[latent], np.ones((1, side, side), dtype=bool))
        mask &= self.pictured[first : first + len(pixels), None, None]
        kept = frames.copy()
        kept[: len(pixels)][mask] = pixels[mask]
        return kept


class GridPrompts:
    """Makes prompts for the frame size, rate and codes of one model."""

    def __init__(
        self,
        encode: Callable[[NDArray[np.uint8]], Tensor],
        size: tuple[int, int],
        *,
        fps: float,
        time_stride: int,
        space_stride: int,
    ) -> None:
        """encode: frames uint8 [T, H, W, 3] to codes [t, h, w]. size: (H, W) of the clips."""
        self.encode, self.size, self.fps = encode, size, fps
        self.time_stride, self.space_stride = time_stride, space_stride

    def of(
        self,
        *,
        image: Any,
        rows: int | None,
        last_image: Any,
        keyframes: Mapping[int, Any] | None,
        video: Any,
        video_frames: int | None,
        border: int | None,
        num_frames: int,
        policy: "Policy",
    ) -> GridPrompt | None:
        """The prompt of a call of the pipeline, which documents the arguments; None if nothing is given."""
        for name, part, whole, what in (
            ("rows", rows, image, "how much of an image"),
            ("video_frames", video_frames, video, "how much of a video"),
            ("border", border, video, "how wide a rim of a video"),
        ):
            given = part is None or whole is not None
            require(given, ConfigError, "{} says {} to keep; give one.", name, what)
        require(
            image is None or video is None,
            ConfigError,
            "image and video cannot both be given; a video has a first frame of its own.",
        )
        pictures = self._pictures(image, last_image, keyframes, num_frames)
        found: list[tuple[int, GridPrompt]] = []  # with the latent frame that each begins with
        filmed = 0  # frames that the video gives
        if video is not None:
            check_video_frames(video_frames, num_frames)
            film = self.film(video, video_frames or num_frames, policy, cut=video_frames is not None)
            wanted = 1 if video_frames is None else video_frames
            require(
                len(film.frames) > (wanted - 1) // self.time_stride * self.time_stride,
                ShapeError,
                "video_frames is {}, but the video has no more than {} frames at {:g} per second.",
                video_frames,
                len(film.frames) + self.time_stride - 1,
                self.fps,
            )
            found.append((0, film if border is None else _rim(film, border)))
            filmed = len(film.frames)
        for number, picture in sorted(pictures.items()):
            require(
                number >= filmed,
                ConfigError,
                "key frame {} lies within the video, which gives its first {} frames; name a later one.",
                number,
                filmed,
            )
            named = str(picture) if isinstance(picture, (str, Path)) else "picture"
            frames = self._fitted(read_image(picture)[None], policy, named)
            prompt = self._top(frames, rows) if number == 0 else self._still(frames)
            found.append((number // self.time_stride, prompt))
        return self._joined(found) if found else None

    def _pictures(
        self, image: Any, last_image: Any, keyframes: Mapping[int, Any] | None, num_frames: int
    ) -> dict[int, Any]:
        """Each picture by the number of its frame."""
        require(
            keyframes is None or isinstance(keyframes, Mapping),
            ConfigError,
            "keyframes must be a dict of pictures by the number of their frame; got {}.",
            type(keyframes).__name__,
        )
        given = (keyframes or {}).items()
        pictures = {int(at) if isinstance(at, np.integer) else at: picture for at, picture in given}
        for number in pictures:
            valid = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < num_frames
            require(
                valid and number % self.time_stride == 0,
                ShapeError,
                "key frame {!r} cannot be; it must be a whole number below {}, the length of the clip, and a "
                "multiple of {}.",
                number,
                num_frames,
                self.time_stride,
            )
        for number, picture, name in ((0, image, "image"), (num_frames - 1, last_image, "last_image")):
            if picture is not None:
                require(
                    number not in pictures, ConfigError, "frame {} is given twice, once as {}.", number, name
                )
                pictures[number] = picture
        return pictures

    def _top(self, frames: NDArray[np.uint8], rows: int | None) -> GridPrompt:
        """The first frame, or its first rows of codes."""
        height = self.size[0] // self.space_stride
        rows = height if rows is None else rows
        whole = isinstance(rows, int) and not isinstance(rows, bool)
        require(
            whole and 1 <= rows <= height,
            ShapeError,
            "rows is {!r}; the first frame has {} rows of codes, so it must lie in 1..{}.",
            rows,
            height,
            height,
        )
        # The rows are encoded by themselves: nothing of what lies below may leak into their codes.
        top = self.encode(frames[:, : rows * self.space_stride])
        codes = torch.zeros(1, height, top.shape[2], dtype=torch.int64)
        codes[:, :rows] = top
        given = torch.zeros(codes.shape, dtype=torch.bool)
        given[:, :rows] = True
        return GridPrompt(codes=codes, given=given, frames=frames, pictured=np.ones(1, dtype=bool))

    def _still(self, frames: NDArray[np.uint8]) -> GridPrompt:
        """A latent frame of a later time in which nothing moves: what a single picture says about it."""
        still = np.repeat(frames, 1 + self.time_stride, axis=0)
        codes = self.encode(still)[1:]
        pictured = np.arange(1, 1 + self.time_stride) == self.time_stride
        given = torch.ones(codes.shape, dtype=torch.bool)
        return GridPrompt(codes=codes, given=given, frames=still[1:], pictured=pictured)

    def _joined(self, found: list[tuple[int, GridPrompt]]) -> GridPrompt:
        """One prompt of several, each with the latent frame that it begins with."""
        latent = max(first + len(prompt.given) for first, prompt in found)
        codes = torch.zeros(latent, *found[0][1].given.shape[1:], dtype=torch.int64)
        given = torch.zeros(codes.shape, dtype=torch.bool)
        frames = np.zeros((1 + self.time_stride * (latent - 1), *self.size, 3), np.uint8)
        pictured = np.zeros(len(frames), dtype=bool)
        for first, prompt in found:
            codes[first : first + len(prompt.given)] = prompt.codes
            given[first : first + len(prompt.given)] = prompt.given
            start = 0 if first == 0 else 1 + self.time_stride * (first - 1)
            frames[start : start + len(prompt.frames)] = prompt.frames
            pictured[start : start + len(prompt.frames)] = prompt.pictured
        return GridPrompt(codes=codes, given=given, frames=frames, pictured=pictured)

    def film(self, video: Any, most: int, policy: "Policy", *, cut: bool = True) -> GridPrompt:
        """The first ``most`` frames of a film, or fewer; without ``cut``, a longer film is refused."""
        frames = self._read(video, most + 1)
        require(
            cut or len(frames) <= most,
            ShapeError,
            "the video has more frames than the clip ({} at {:g} per second); say how many to keep "
            "(video_frames), or ask for a longer clip.",
            most,
            self.fps,
        )
        usable = 1 + (min(len(frames), most) - 1) // self.time_stride * self.time_stride  # whole latent ones
        named = str(video) if isinstance(video, (str, Path)) else "video"
        frames = self._fitted(frames[:usable], policy, named)
        codes = self.encode(frames)
        given = torch.ones(codes.shape, dtype=torch.bool)
        return GridPrompt(codes=codes, given=given, frames=frames, pictured=np.ones(usable, dtype=bool))

    def _read(self, video: Any, most: int) -> NDArray[np.uint8]:
        """The beginning of a film at the model's rate, at most this many frames."""
        if isinstance(video, (str, Path)):
            frames, fps = read_video(video, max_duration_s=(most + 1) / self.fps)
            return resample(frames, fps, self.fps)[:most]
        valid = (
            isinstance(video, np.ndarray)
            and video.ndim == 4
            and video.shape[-1] == 3
            and video.dtype == np.uint8
        )
        require(
            valid and 0 not in video.shape,
            MediaError,
            "video must be a path or a uint8 array [T, H, W, 3] with at least one frame; got {}.",
            f"{video.dtype} {list(video.shape)}" if isinstance(video, np.ndarray) else type(video).__name__,
        )
        return video[:most]

    def _fitted(self, frames: NDArray[np.uint8], policy: "Policy", named: str) -> NDArray[np.uint8]:
        height, width = frames.shape[1:3]
        require(
            max(height, width) <= MAX_ASPECT * min(height, width),
            MediaError,
            "{} is {}x{} px; one side may be at most {} times the other. Cut a part out of it.",
            named,
            width,
            height,
            MAX_ASPECT,
        )
        return resize(frames, self.size, policy)


def _rim(film: GridPrompt, width: Any) -> GridPrompt:
    """The film with only so many rows and columns of codes at its four sides given."""
    most = (min(film.given.shape[1:]) - 1) // 2
    whole = isinstance(width, int) and not isinstance(width, bool)
    require(
        whole and 1 <= width <= most,
        ShapeError,
        "border is {!r}; frames have {} x {} codes, so it must lie in 1..{}.",
        width,
        *film.given.shape[1:],
        most,
    )
    given = film.given.clone()
    given[:, width:-width, width:-width] = False
    return replace(film, given=given)


def check_video_frames(wanted: Any, num_frames: int) -> None:
    """Raise ShapeError unless so many frames of a video can be kept in a clip of num_frames; None is all."""
    whole = isinstance(wanted, int) and not isinstance(wanted, bool)
    require(
        wanted is None or (whole and 1 <= wanted <= num_frames),
        ShapeError,
        "video_frames is {!r}; the clip has {} frames, so it must lie in 1..{}.",
        wanted,
        num_frames,
        num_frames,
    )
