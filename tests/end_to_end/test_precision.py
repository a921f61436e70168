"""The pipeline in other precisions: other models, with every promise that float32 keeps."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kinolenta.errors import ConfigError
from kinolenta.kernels.products import multiplies
from kinolenta.pipeline import VideoPipeline
from tests.end_to_end.test_pipeline import write_model

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
PROMPTS = ["рыжая кошка бежит вправо по траве", "ракета летит вверх", "мяч прыгает"]


needs_bfloat16 = pytest.mark.skipif(not multiplies(torch.bfloat16), reason="no bfloat16 here")


@pytest.mark.parametrize("precision", [pytest.param("bfloat16", marks=needs_bfloat16), "int8"])
def test_rounded_weights_keep_every_promise(precision: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    exact, rounded = (VideoPipeline.from_pretrained(folder, precision=one) for one in ("float32", precision))
    clips = rounded(PROMPTS, seed=[1, 2, 3])
    for clip, again in zip(clips, rounded(PROMPTS, seed=[1, 2, 3], decoding="sequential"), strict=True):
        assert np.array_equal(clip.frames, again.frames) and clip.log_prob == again.log_prob
    alone = rounded(PROMPTS[1], seed=2)
    assert np.array_equal(alone.codes, clips[1].codes)
    assert np.array_equal(np.stack([*rounded.stream(PROMPTS[1], seed=2)]), alone.frames)
    longer = rounded(PROMPTS[0], seed=1, num_frames=17)
    assert longer.frames.shape[0] == 17 and np.array_equal(longer.codes[:3], clips[0].codes)
    for clip, other in zip(clips, exact(PROMPTS, seed=[1, 2, 3]), strict=True):
        assert clip.log_prob != other.log_prob


@needs_bfloat16
def test_a_bfloat16_pipeline_reads_clips_too(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    exact, rounded = (VideoPipeline.from_pretrained(folder, precision=one) for one in ("float32", "bfloat16"))
    clip = exact(PROMPTS[0], seed=1)
    assert isinstance(rounded.caption(clip), str)
    for near, score in zip(rounded.score(clip, PROMPTS), exact.score(clip, PROMPTS), strict=True):
        assert near.text_log_prob == pytest.approx(score.text_log_prob, rel=0.02)


@pytest.mark.parametrize("precision", ["float16", True, None])
def test_another_precision_is_refused(precision: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no precision .*; choose one of float32, bfloat16, int8"):
        VideoPipeline.from_pretrained(write_model(tmp_path / "model"), precision=precision)  # type: ignore[arg-type]
