"""Figures about generated clips: intervals, rows, goals, and the script that prints them."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from kinolenta.clip import Clip
from kinolenta.data.scene import BACKGROUNDS, IN_PLACE, MOTIONS, Scene
from kinolenta.data.splits import split_of
from kinolenta.errors import CheckpointError, ConfigError
from kinolenta.evaluation.examples import balanced_scenes
from kinolenta.evaluation.judge import Judge, JudgeNetwork, Verdicts
from kinolenta.evaluation.quality import (
    Row,
    Share,
    check_ceiling,
    coding,
    confusion,
    held_out,
    report,
    score,
    shuffled,
)
from tests.evaluation.scripts import script, tiny_vqgan


def verdicts_of(scenes: list[Scene]) -> Verdicts:
    return Verdicts(
        motions=[scene.motion for scene in scenes],
        backgrounds=[scene.background for scene in scenes],
        motion_probabilities=np.zeros((len(scenes), 13), np.float32),
        background_probabilities=np.zeros((len(scenes), 18), np.float32),
    )


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (140, 200, 0.6332, 0.7592)],
)
def test_wilson_interval_has_known_values(right: int, count: int, low: float, high: float) -> None:
    assert Share(right, count).interval == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("right", "count"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_shares_are_refused(right: int, count: int) -> None:
    with pytest.raises(ConfigError, match="is no share"):
        Share(right, count)


def test_held_out_scenes_are_of_the_split_and_move() -> None:
    scenes, captions = held_out(30, split="T1", seed=0)
    assert {split_of(scene) for scene in scenes} == {"T1"}
    assert IN_PLACE not in {scene.motion for scene in scenes}
    assert held_out(30, split="T1", seed=0) == (scenes, captions)
    assert held_out(30, split="T1", seed=1)[0] != scenes
    assert all(caption.strip() for caption in captions)


def test_one_caption_is_too_few_to_shuffle() -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        held_out(1, split="T1", seed=0)


def test_judge_learns_every_motion_equally() -> None:
    scenes = balanced_scenes(28, split="train", seed=5)
    counts = [sum(scene.motion == motion for scene in scenes) for motion in MOTIONS]
    assert sum(counts) == 28 and set(counts) == {2, 3}
    assert {split_of(scene) for scene in scenes} == {"train"}


def test_shuffled_scenes_leave_none_in_place() -> None:
    scenes = [Scene(noun="1f408", style="noto", motion="left", background="sea", seed=i) for i in range(9)]
    other = shuffled(scenes, seed=0)
    assert sorted(scene.seed for scene in other) == list(range(9))
    assert all(a.seed != b.seed for a, b in zip(scenes, other, strict=True))


def test_rows_count_what_was_right() -> None:
    scenes = [
        Scene(noun="1f408", style="noto", motion=motion, background=background)
        for motion, background in (("left", "sea"), ("left", "sky"), ("grow", "sea"), ("up", "white"))
    ]
    verdicts = verdicts_of(scenes)
    verdicts.motions[0] = "right"
    verdicts.backgrounds[2] = "sky"
    row = score("generated", verdicts, scenes)
    assert (row.motion.right, row.background.right, row.both.right) == (3, 3, 2)
    assert confusion([scene.motion for scene in scenes], verdicts.motions, MOTIONS) == {
        "left": {"left": 1, "right": 1},
        "up": {"up": 1},
        "grow": {"grow": 1},
    }


@pytest.mark.parametrize(("motion", "background"), [(94, 100), (100, 94)])
def test_bad_judge_is_not_listened_to(motion: int, background: int) -> None:
    with pytest.raises(CheckpointError, match=r"only 94\.0 % .* must reach 95 %"):
        check_ceiling(Row("real", Share(motion, 100), Share(background, 100), Share(94, 100)))
    check_ceiling(Row("real", Share(95, 100), Share(95, 100), Share(90, 100)))


def test_coding_joins_the_codes_of_all_sources() -> None:
    model = tiny_vqgan()
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (3, 5, 16, 16, 3), dtype=np.uint8)
    found = coding(model, {"world": (2, clips.__getitem__), "film": (1, lambda i: clips[2])})
    assert [found[name].clips for name in ("world", "film", "all")] == [2, 1, 3]
    assert found["all"].psnr_db == pytest.approx((2 * found["world"].psnr_db + found["film"].psnr_db) / 3)
    single = max(found["world"].codes_used, found["film"].codes_used)
    both = found["world"].codes_used + found["film"].codes_used
    assert single <= found["all"].codes_used <= both


class ReadingJudge:
    """Reads the answer from the first pixel, where the clips of these tests carry it."""

    def __call__(self, frames: np.ndarray) -> Verdicts:
        first = frames[:, 0, 0, 0].astype(int)
        return Verdicts(
            motions=[MOTIONS[pixel[0]] for pixel in first],
            backgrounds=[BACKGROUNDS[pixel[1]] for pixel in first],
            motion_probabilities=np.zeros((len(frames), 13), np.float32),
            background_probabilities=np.zeros((len(frames), 18), np.float32),
        )


class ObedientPipeline:
    """Makes the clip that the scene asks for, but every fourth one moves to the left."""

    height, fps = 64, 8.0

    def __init__(self, scenes: list[Scene]) -> None:
        self.decoder = tiny_vqgan()
        self.clips = marked_clips(scenes)
        self.asked: list[tuple[str, int, dict[str, Any]]] = []

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        return frames

    def __call__(self, prompts: list[str], *, seed: list[int], **options: Any) -> list[Clip]:
        made = []
        for prompt, number in zip(prompts, seed, strict=True):
            self.asked.append((prompt, number, options))
            frames = self.clips[number].copy()
            if number % 4 == 0:
                frames[..., 0] = MOTIONS.index("left")
            made.append(Clip(frames, 8.0, np.zeros((5, 8, 8), np.int64), prompt, number))
        return made


def marked_clips(scenes: list[Scene]) -> np.ndarray:
    clips = np.zeros((len(scenes), 17, 64, 64, 3), np.uint8)
    for clip, scene in zip(clips, scenes, strict=True):
        clip[..., 0] = MOTIONS.index(scene.motion)
        clip[..., 1] = BACKGROUNDS.index(scene.background)
    return clips


@pytest.fixture
def quality(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = script("quality")
    monkeypatch.setattr(module, "real_clips", lambda scenes, size: marked_clips(scenes))
    return module


def run(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, judge: Any, arguments: list[str]
) -> tuple[int, Any]:
    pipe = ObedientPipeline(held_out(20, split="T1", seed=0)[0])
    monkeypatch.setattr(module.Judge, "load", lambda path=None: judge)
    monkeypatch.setattr(module.VideoPipeline, "from_pretrained", lambda path=None, precision="float32": pipe)
    return module.main(["--clips", "20", "--world-clips", "0", "--film-clips", "0", *arguments]), pipe


def test_script_reports_rows_goals_and_verdicts(
    quality: ModuleType,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    pytest.importorskip("PIL")
    file, sheet = tmp_path / "figures.json", tmp_path / "sheet.png"
    arguments = ["--store", str(store), "--json", str(file), "--sheet", str(sheet), "--guidance-scale", "2.5"]
    code, pipe = run(quality, monkeypatch, ReadingJudge(), arguments)
    assert code == 0
    assert [number for _, number, _ in pipe.asked] == list(range(20))
    assert {tuple(options.items()) for *_, options in pipe.asked} == {
        (("decoding", "parallel"), ("guidance_scale", 2.5))
    }

    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    written = json.loads(file.read_text(encoding="utf-8"))
    assert {key: value for key, value in written.items() if key != "clips"} == last
    assert set(last["rows"]) == {
        "real renderings", "their VQGAN reconstructions", "generated", "generated, captions shuffled",
    }  # fmt: skip
    scenes = held_out(20, split="T1", seed=0)[0]
    wrong = sum(scene.motion != "left" for scene in scenes[::4])
    assert last["rows"]["generated"]["motion"]["right"] == 20 - wrong < 20
    assert last["rows"]["generated"]["background"]["share"] == 1.0
    assert last["rows"]["real renderings"]["both"]["right"] == 20
    assert last["rows"]["generated, captions shuffled"]["both"]["right"] < 10
    assert set(last["rows"]["generated"]["motion"]) == {"right", "count", "share", "low", "high"}
    assert set(last["vqgan"]) == {"store", "all"} and last["vqgan"]["store"]["clips"] == 2
    assert set(last["goals"]) == {"motion", "background", "psnr_db", "codes_used"}
    assert last["goals"]["background"]["met"] is True and last["goals"]["psnr_db"]["met"] is False
    assert len(written["clips"]) == 20 and written["clips"][3]["seen_motion"] == scenes[3].motion
    assert sheet.read_bytes()[:4] == b"\x89PNG"


def test_script_does_not_listen_to_a_broken_judge(
    quality: ModuleType,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    file = tmp_path / "figures.json"
    torch.manual_seed(0)
    broken = Judge(JudgeNetwork(), {})
    code, pipe = run(quality, monkeypatch, broken, ["--store", str(store), "--json", str(file)])
    assert code == 1 and pipe.asked == [] and not file.exists()
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("The judge names the motion of only") and "Train it again" in error


def test_script_refuses_an_unwritable_file_before_it_works(
    quality: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    code, pipe = run(quality, monkeypatch, ReadingJudge(), ["--json", str(tmp_path / "absent" / "a.json")])
    assert code == 1 and pipe.asked == []
    assert "there is no folder" in capsys.readouterr().err


def test_goals_are_taken_from_the_generated_row() -> None:
    scenes = held_out(20, split="T1", seed=0)[0]
    verdicts = verdicts_of(scenes)
    real, made = score("real renderings", verdicts, scenes), score("generated", verdicts, scenes[::-1])
    model = tiny_vqgan()
    clip = np.zeros((5, 16, 16, 3), np.uint8)
    figures = report([real, made], coding(model, {"world": (1, lambda i: clip)}), verdicts, scenes)
    assert figures["goals"]["motion"]["reached"] == pytest.approx(made.motion.value, abs=1e-4)
    assert figures["goals"]["codes_used"]["wanted"] == 0.60
    json.dumps(figures, allow_nan=False)
