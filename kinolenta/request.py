"""What one call of the pipeline asks for, checked and brought to the transformer's terms."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from torch import Tensor

from kinolenta.transformer import GPT, Generation, SamplingConfig

if TYPE_CHECKING:
    from kinolenta.media.geometry import Policy

MAX_BATCH = 16  # prompts drawn side by side; a longer list is cut, with no change to any clip
Progress = Callable[[int, int], None]  # called with (codes drawn, codes in all)


class Options(TypedDict, total=False):
    """The keyword arguments of a call; ``VideoPipeline.__call__`` says what each of them means."""

    image: Any
    seed: int | Sequence[int]
    num_frames: int | None
    guidance_scale: float | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    decoding: str
    resize_policy: "Policy"
    truncate: bool
    progress: Progress | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """Prompts with their ids and seeds, and what holds for all of them.

    known: codes [1, k] that every clip begins with, or None.
    """

    prompts: list[str]
    text_ids: list[list[int]]
    seeds: list[int]
    known: Tensor | None
    num_latent_frames: int
    sampling: SamplingConfig
    guidance_scale: float
    decoding: str
    progress: Progress | None

    def batches(self) -> Iterator[slice]:
        """Rows that are generated side by side."""
        for start in range(0, len(self.prompts), MAX_BATCH):
            yield slice(start, min(start + MAX_BATCH, len(self.prompts)))

    def start(self, transformer: GPT, rows: slice) -> Generation:
        """The generation of some of the prompts; raises what ``Generation`` does."""
        return Generation(
            transformer,
            self.text_ids[rows],
            seeds=self.seeds[rows],
            known_codes=None if self.known is None else self.known.expand(rows.stop - rows.start, -1),
            num_latent_frames=self.num_latent_frames,
            sampling=self.sampling,
            guidance_scale=self.guidance_scale,
            decoding=self.decoding,
        )

    def frames(self, generation: Generation, rows: slice) -> Iterator[Tensor]:
        """Codes [b, t + 1, h, w] after each latent frame t, reported to ``progress`` on the way."""
        for _, codes in generation.frames():
            if self.progress is not None:
                per_clip = codes[0, 0].numel() * self.num_latent_frames
                done = rows.start * per_clip + codes.numel()
                self.progress(done, len(self.prompts) * per_clip)
            yield codes
