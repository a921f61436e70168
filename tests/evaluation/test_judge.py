"""The judge: what it names, what it is blind to on purpose, what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kinolenta.data.scene import BACKGROUNDS, COLOURS, MOTIONS, Scene
from kinolenta.errors import CheckpointError, ShapeError
from kinolenta.evaluation.judge import WEIGHTS_NAME, Judge, JudgeNetwork, motion_features, shrink
from kinolenta.evaluation.train_judge import disturb, labels, reduced, train
from tests.evaluation.squares import square_clip

EASY = ("left", "right", "up", "down", "grow", "shrink", "still")


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load()


def as_small(clips: list[np.ndarray]) -> torch.Tensor:
    return shrink(torch.from_numpy(np.stack(clips)))


def test_shipped_judge_names_plain_motions(judge: Judge) -> None:
    clips = np.stack([square_clip(motion, back) for motion in EASY for back in ("white", "cyan")])
    assert judge(clips).motions == [motion for motion in EASY for _ in range(2)]


def test_shipped_judge_names_plain_backgrounds(judge: Judge) -> None:
    colours = [name for name in COLOURS if name != "red"]  # the square is of that colour
    clips = np.stack([square_clip("still", back) for back in colours])
    assert judge(clips).backgrounds == colours


def test_shipped_judge_is_small_and_says_how_good_it_is(judge: Judge) -> None:
    from importlib import resources

    path = Path(str(resources.files("kinolenta.evaluation"))) / WEIGHTS_NAME
    assert path.stat().st_size < 500_000
    held = judge.facts["held_out"]
    assert held["motion"] >= 0.97 and held["background"] >= 0.98
    assert set(held["motion_by_class"]) == set(MOTIONS)
    assert set(held["background_by_class"]) == set(BACKGROUNDS)


def test_probabilities_are_those_of_the_names(judge: Judge) -> None:
    verdicts = judge(np.stack([square_clip("left"), square_clip("grow")]))
    assert verdicts.motion_probabilities.shape == (2, 13)
    assert verdicts.background_probabilities.shape == (2, 18)
    assert np.allclose(verdicts.motion_probabilities.sum(axis=1), 1, atol=1e-5)
    assert [MOTIONS[i] for i in verdicts.motion_probabilities.argmax(axis=1)] == verdicts.motions


def test_a_batch_says_what_each_clip_says_alone(judge: Judge) -> None:
    clips = np.stack([square_clip(motion) for motion in EASY])
    together = judge(clips, batch=3).motion_probabilities
    alone = np.concatenate([judge(clip[None]).motion_probabilities for clip in clips])
    assert np.allclose(together, alone, atol=1e-5)


def test_frozen_clip_is_still_wherever_its_thing_is(judge: Judge) -> None:
    clips = [np.repeat(square_clip(motion)[t : t + 1], 17, axis=0) for motion in EASY for t in (2, 15)]
    assert set(judge(np.stack(clips)).motions) == {"still"}


def test_larger_frames_are_judged_like_small_ones(judge: Judge) -> None:
    clip = square_clip("right")
    large = clip.repeat(2, axis=1).repeat(2, axis=2)
    one, other = judge(clip[None]), judge(large[None])
    assert np.allclose(one.motion_probabilities, other.motion_probabilities, atol=1e-4)


def test_motion_features_are_blind_to_colours() -> None:
    clip = square_clip("right", "grey")
    one, other = motion_features(as_small([clip])), motion_features(as_small([255 - clip]))
    assert torch.allclose(one, other, atol=2e-3)
    swapped = motion_features(as_small([np.ascontiguousarray(clip[..., ::-1])]))
    coarse = slice(5, 9)  # the fine scale weighs colours by brightness
    assert torch.allclose(one[:, :, coarse], swapped[:, :, coarse], atol=2e-3)


def test_flow_has_the_size_and_the_sign_of_the_motion() -> None:
    """A blob that moves one pixel of 32 a frame moves one on the fine scale, half on the coarse one."""
    y, x = np.mgrid[:64, :64]
    frames = [127 + 100 * np.exp(-((x - 16 - 2 * t) ** 2 + (y - 32) ** 2) / 100) for t in range(17)]
    clip = np.repeat(np.stack(frames)[..., None], 3, axis=-1).astype(np.uint8)
    features = motion_features(as_small([clip]))[0]
    edges = features[:, 3]
    strong = edges > 0.6 * edges.amax()
    assert features[:, 1][strong].mean().item() == pytest.approx(1, abs=0.2)
    assert features[:, 5][strong].mean().item() == pytest.approx(0.5, abs=0.15)
    assert features[:, 2][strong].abs().mean() < 0.2


def test_disturbed_clips_keep_true_labels() -> None:
    """Mirrored and reversed clips carry the name of what they show then."""
    small = as_small([square_clip("left", "black")] * 64)
    shown, motions = disturb(
        small, torch.full((64,), MOTIONS.index("left")), torch.Generator().manual_seed(3)
    )
    places = (shown.mean(dim=(2, 3)) * torch.arange(32)).sum(dim=-1) / shown.mean(dim=(2, 3)).sum(dim=-1)
    moved = (places[:, -1] - places[:, 0]).tolist()
    named = [MOTIONS[i] for i in motions.tolist()]
    assert set(named) == {"left", "right", "still"}
    for name, way in zip(named, moved, strict=True):
        assert (name == "left") == (way < -1) and (name == "right") == (way > 1)


def test_training_is_deterministic_and_leaves_the_global_generator_alone() -> None:
    clips = np.stack([reduced(square_clip(motion)) for motion in EASY for _ in range(2)])
    scenes = [
        Scene(noun="1f408", style="noto", motion=motion, background="white")
        for motion in EASY
        for _ in (0, 1)
    ]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, other = (train(clips, scenes, epochs=2, batch=7) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    assert any(
        not torch.equal(a, b) for a, b in zip(one.parameters(), JudgeNetwork().parameters(), strict=True)
    )


def test_labels_are_numbers_of_the_names() -> None:
    motions, backgrounds = labels([Scene(noun="1f408", style="noto", motion="up", background="sea")])
    assert MOTIONS[motions[0]] == "up" and BACKGROUNDS[backgrounds[0]] == "sea"


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((1, 16, 64, 64, 3), np.uint8),
        np.zeros((17, 64, 64, 3), np.uint8),
        np.zeros((0, 17, 64, 64, 3), np.uint8),
        np.zeros((1, 17, 16, 64, 3), np.uint8),
        np.zeros((1, 17, 64, 64, 3), np.float32),
    ],
)
def test_wrong_clips_are_refused(judge: Judge, frames: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="17, h, w, 3"):
        judge(frames)


def test_saved_judge_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "judge.safetensors"
    Judge(JudgeNetwork(), {"recipe": {"clips": 3}}).save(path)
    back = Judge.load(path)
    assert back.facts["recipe"] == {"clips": 3}
    assert not any(parameter.requires_grad for parameter in back.network.parameters())


def test_judge_of_another_world_is_refused(tmp_path: Path) -> None:
    from kinolenta.checkpoint import save_trainer_state

    path = tmp_path / "judge.safetensors"
    names = {"motions": ["left"], "backgrounds": list(BACKGROUNDS)}
    save_trainer_state(path, JudgeNetwork().state_dict(), names)
    with pytest.raises(CheckpointError, match="other motions"):
        Judge.load(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        Judge.load(tmp_path / "absent.safetensors")
