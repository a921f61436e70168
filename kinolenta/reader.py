"""Clips read back into Russian: what they show, and how well texts fit them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinolenta.clip import Clip, Score
from kinolenta.errors import PromptError, ShapeError, require
from kinolenta.grid import GridPrompts
from kinolenta.prompt import check_prompt, encode_whole
from kinolenta.tokenizer import TextTokenizer
from kinolenta.transformer import GPT, Reading, code_log_probs

Film: TypeAlias = Clip | str | Path | NDArray[np.uint8]


class Reader:
    """What a pipeline uses to read clips."""

    def __init__(
        self, tokenizer: TextTokenizer, transformer: GPT, prompts: GridPrompts, num_frames: int
    ) -> None:
        """prompts: how films become codes. num_frames: how much of a film is looked at."""
        self.tokenizer, self.transformer = tokenizer, transformer
        self.prompts, self.num_frames = prompts, num_frames

    def caption(self, clip: Film) -> str:
        """``VideoPipeline.caption``."""
        reading = Reading(self.transformer, self._codes(clip)[None])
        return self.tokenizer.decode(reading.write(self.transformer.config.text_len)[0])

    def answer(self, clip: Film, question: str) -> str:
        """``VideoPipeline.answer``."""
        asked = check_prompt(question, "question").strip()
        limit = self.transformer.config.text_len
        asked = f"{asked.rstrip('?!. ')}?"
        ids = encode_whole(self.tokenizer, asked, limit, "question")
        reading = Reading(self.transformer, self._codes(clip)[None], [ids])
        return self.tokenizer.decode(reading.write(limit)[0])

    def score(self, clip: Film, texts: Sequence[str]) -> list[Score]:
        """``VideoPipeline.score``."""
        require(
            isinstance(texts, (list, tuple)) and len(texts) > 0,
            PromptError,
            "texts must be a text or a list of texts; got {!r}.",
            texts,
        )
        limit = self.transformer.config.text_len
        text_ids = [encode_whole(self.tokenizer, text, limit, "text") for text in texts]
        codes = self._codes(clip)[None]
        said = Reading(self.transformer, codes).log_probs(text_ids, [0] * len(text_ids))
        rows = codes.expand(len(text_ids) + 1, -1, -1, -1)
        log_probs = code_log_probs(self.transformer, [[], *text_ids], rows)
        without, *with_text = log_probs.sum((1, 2, 3)).tolist()
        return [Score(one - without, other) for one, other in zip(with_text, said.tolist(), strict=True)]

    def _codes(self, clip: Any) -> Tensor:
        """Codes [t, h, w] of a clip of ours, or of the beginning of a film."""
        if isinstance(clip, Clip):
            codes, (frames, *size) = clip.codes, self.transformer.config.grid
            valid = isinstance(codes, np.ndarray) and np.issubdtype(codes.dtype, np.integer)
            require(
                valid and codes.ndim == 3 and list(codes.shape[1:]) == size and len(codes) > 0,
                ShapeError,
                "clip's codes must be whole numbers [t, {}, {}] with at least one latent frame.",
                *size,
            )
            return torch.from_numpy(np.ascontiguousarray(codes[:frames])).long()
        return self.prompts.film(clip, self.num_frames, "cover").codes
