"""One generated film with everything that is known about it."""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinolenta.errors import MediaError, ShapeError

FILM_SIDE_PX = 256  # a film of 64 px is a stamp on today's screens: saved ones are enlarged to about this


class Score(NamedTuple):
    """How well a text fits a clip, in nats, the higher the better.

    gain: log p(clip | text) - log p(clip). text_log_prob: log p(text | clip); longer texts have lower ones.
    """

    gain: float
    text_log_prob: float


@dataclass(frozen=True, eq=False)
class Clip:
    """A film that came out of the model.

    frames: uint8 RGB ``[T, H, W, 3]``; fps: frames per second; codes: ``[t, h, w]`` integers from which the
    frames were decoded; prompt and seed repeat it; candidate: its number among several of the same prompt;
    score: log p(codes | prompt) - log p(codes | nothing) of the codes that were drawn and not given, or None
    where it was not computed; log_prob: log p(codes | prompt) of the same, or None; text_log_prob:
    log p(prompt | clip), what the best of several is chosen by, or None; of a clip longer than trained the
    mean over windows of what was drawn; passes: how many times the transformer ran over windows of codes, and
    one more for the text.
    """

    frames: NDArray[np.uint8] = field(repr=False)
    fps: float
    codes: NDArray[np.integer] = field(repr=False)
    prompt: str
    seed: int
    candidate: int = 0
    score: float | None = None
    log_prob: float | None = None
    text_log_prob: float | None = None
    passes: int = 0

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise ShapeError(
                f"Clip.frames must be uint8 [T, H, W, 3]; got {self.frames.dtype} {list(self.frames.shape)}."
            )

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.frames)

    @property
    def duration_s(self) -> float:
        """How long the film plays, in seconds."""
        return len(self) / self.fps

    def save(self, path: str | Path, *, overwrite: bool = False, scale: int | None = None) -> Path:
        """Write the film as .mp4, .webm or .gif, or as a strip of frames .png; returns the path.

        scale: every pixel becomes scale x scale pixels; None enlarges films to about 256 px and strips not at
        all. The file is whole or absent. Raises MediaError; an existing file is an error unless
        ``overwrite``.
        """
        from kinolenta.media import write

        if not isinstance(path, (str, Path)) or not str(path):
            raise MediaError(f"A film is saved to a path (a str or Path); got {path!r}.")
        if scale is None:
            is_strip = Path(path).suffix.lower() == ".png"
            scale = 1 if is_strip else max(1, FILM_SIDE_PX // min(self.frames.shape[1:3]))
        return write(self.frames, path, self.fps, overwrite=overwrite, scale=scale)

    def _repr_html_(self) -> str:
        """The playing film, for notebooks."""
        import html
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            film = self.save(Path(folder) / "clip.mp4").read_bytes()
        source = base64.b64encode(film).decode("ascii")
        return (
            f'<figure><video src="data:video/mp4;base64,{source}" autoplay loop muted controls></video>'
            f"<figcaption>{html.escape(self.prompt)} (seed {self.seed})</figcaption></figure>"
        )
