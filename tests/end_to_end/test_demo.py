"""The shipped demo, from the command a newcomer types to the file it leaves."""

import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from kinolenta.checkpoint import demo_folder
from kinolenta.cli import main
from kinolenta.evaluation.wording import said_background
from kinolenta.pipeline import VideoPipeline
from kinolenta.tokenizer import TextTokenizer

PROMPT = "рыжая кошка бежит вправо по траве"
MAX_BYTES = 40_000_000


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["kinolenta", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def pipe() -> VideoPipeline:
    return VideoPipeline.from_pretrained()


def test_one_command_makes_a_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    film = tmp_path / "cat.mp4"
    assert run(monkeypatch, "generate", PROMPT, "-o", film, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["path"] == str(film) and facts["frames"] == 17 and facts["fps"] == 8.0
    with av.open(str(film)) as container:
        assert float(container.streams.video[0].average_rate or 0) == 8.0
        assert sum(1 for _ in container.decode(video=0)) == 17
    assert [path.name for path in tmp_path.iterdir()] == ["cat.mp4"]


def test_the_demo_is_small_and_has_the_shipped_vocabulary(pipe: VideoPipeline) -> None:
    size = sum(path.stat().st_size for path in demo_folder().rglob("*") if path.is_file())
    assert size <= MAX_BYTES
    assert pipe.tokenizer.sha256 == TextTokenizer.shipped().sha256
    assert pipe.num_frames == 17 and (pipe.height, pipe.width) == (64, 64)


def test_the_ground_follows_the_sentence(pipe: VideoPipeline) -> None:
    """Not a score, only that text reaches the picture: a white background is brighter than a black one."""
    white, black = pipe(["мяч стоит на белом фоне", "мяч стоит на черном фоне"])
    corner = np.s_[:, :6, :6]
    assert white.frames[corner].mean() > black.frames[corner].mean() + 80


def test_alone_equals_in_a_list_on_the_shipped_model(pipe: VideoPipeline) -> None:
    together = pipe([PROMPT, "синий автомобиль едет влево на белом фоне"], seed=[3, 4])
    assert np.array_equal(pipe(PROMPT, seed=3).codes, together[0].codes)


def test_what_decides_the_best_of_several_does_not_depend_on_neighbours(pipe: VideoPipeline) -> None:
    options = {"num_frames": 1, "temperature": 0.0, "best_of": 3}
    together = pipe([PROMPT, "мяч", "дельфин плывет вправо в море"], seed=5, **options)
    for clip in together:
        alone = pipe(clip.prompt, seed=5, **options)
        assert np.array_equal(alone.codes, clip.codes) and alone.candidate == clip.candidate
        assert (alone.text_log_prob, alone.score) == (clip.text_log_prob, clip.score)


@pytest.mark.parametrize(
    "options",
    [{}, {"guidance_frames": 17}, {"guidance_scale": 1.0}, {"top_k": 100, "top_p": 0.9}],
    ids=str,
)
def test_parallel_equals_sequential_on_the_shipped_model(
    pipe: VideoPipeline, options: dict[str, float]
) -> None:
    prompts = [PROMPT, "синий автомобиль едет влево на белом фоне", "звезда растет на черном фоне"]
    slow = pipe(prompts, seed=[5, 6, 7], decoding="sequential", **options)
    for number, prompt in enumerate(prompts):
        fast = pipe(prompt, seed=5 + number, **options)
        assert np.array_equal(fast.codes, slow[number].codes)
        assert fast.log_prob == slow[number].log_prob and fast.score == slow[number].score
        assert fast.passes < slow[number].passes / 3


def test_a_first_frame_is_continued(
    pipe: VideoPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "first.png"
    start = pipe("красный мяч стоит на синем фоне", num_frames=1)
    start.save(picture)
    film = tmp_path / "next.webm"
    assert (
        run(monkeypatch, "generate", "мяч катится вправо на синем фоне", "--image", picture, "-o", film) == 0
    )
    clip = pipe("мяч катится вправо на синем фоне", image=picture)
    assert np.array_equal(clip.frames[:1], pipe.reconstruct(start.frames))
    assert film.stat().st_size > 0


def test_a_film_goes_through_the_codes_and_back(
    pipe: VideoPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, result = tmp_path / "source.mp4", tmp_path / "both.mp4"
    pipe(PROMPT).save(source)
    assert run(monkeypatch, "reconstruct", source, "-o", result, "--json") == 0
    assert json.loads(capsys.readouterr().out)["psnr_db"] > 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["", "-o", "out.mp4"], "empty"),
        (["слово " * 5000, "-o", "out.mp4"], "characters"),
        (["слово " * 600, "-o", "out.mp4"], "Shorten it"),
        (["12345", "-o", "out.mp4"], "must contain words"),
        ([PROMPT, "--image", "missing.png", "-o", "out.mp4"], "missing.png"),
        ([PROMPT, "--image", "text.png", "-o", "out.mp4"], "text.png"),
        ([PROMPT, "-o", "missing_folder/out.mp4"], "missing_folder"),
        ([PROMPT, "-o", "out.exe"], "out.exe"),
        ([PROMPT, "-o", "there.mp4"], "there.mp4"),
        ([PROMPT, "--model", "missing_model", "-o", "out.mp4"], "missing_model"),
    ],
)
def test_bad_input_ends_in_one_line_and_exit_code_1(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("это не картинка")
    (tmp_path / "there.mp4").write_bytes(b"kept")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert run(monkeypatch, "generate", *arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1 and message in printed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "there.mp4").read_bytes() == b"kept"


def test_an_unknown_option_in_a_config_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"stepss": 3}))
    assert run(monkeypatch, "train", "transformer", "--config", config, "-o", tmp_path / "run") == 1
    printed = capsys.readouterr()
    assert "'stepss'" in printed.err and "Did you mean 'steps'" in printed.err
    assert not (tmp_path / "run").exists()


def test_the_demo_reads_what_it_has_drawn(pipe: VideoPipeline) -> None:
    """Not a score, only that clips reach the text: grounds far more often than one time in 18, by chance."""
    named = 0
    for ground, told, name in (("белом", "белый", "white"), ("черном", "черный", "black")):
        for clip in pipe([f"мяч стоит на {ground} фоне"] * 4, seed=[1, 2, 3, 4]):
            assert pipe.answer(clip, "какой фон?") == told
            named += said_background(pipe.caption(clip)) == name
    assert named >= 5


def test_the_demo_goes_on_past_its_length(pipe: VideoPipeline) -> None:
    clip = pipe(PROMPT, seed=5, num_frames=29)
    assert len(clip) == 29 and np.array_equal(clip.codes[:5], pipe(PROMPT, seed=5).codes)
    slow = pipe(PROMPT, seed=5, num_frames=25, decoding="sequential")
    assert np.array_equal(slow.codes, clip.codes[:7])
