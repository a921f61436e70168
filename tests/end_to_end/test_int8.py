"""The pipeline with rounded weights: another model, with every promise that exact weights keep."""

from pathlib import Path

import numpy as np
import pytest

from kinolenta.errors import ConfigError
from kinolenta.pipeline import VideoPipeline
from tests.end_to_end.test_pipeline import write_model

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
PROMPTS = ["рыжая кошка бежит вправо по траве", "ракета летит вверх", "мяч прыгает"]


def test_rounded_weights_keep_every_promise(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    exact, rounded = (VideoPipeline.from_pretrained(folder, int8=int8) for int8 in (False, True))
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


def test_int8_is_a_switch(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="int8 is 'yes'; it must be True or False"):
        VideoPipeline.from_pretrained(write_model(tmp_path / "model"), int8="yes")  # type: ignore[arg-type]
