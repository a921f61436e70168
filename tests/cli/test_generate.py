"""``kinolenta generate``: what reaches the pipeline, what is printed, what is refused before loading."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from kinolenta.media import read_video, write


def test_clip_is_written_and_its_path_printed(tmp_path, run, pipeline) -> None:
    output = tmp_path / "кошка.mp4"
    result = run("generate", "рыжая кошка", "-o", output, "--seed", "7")
    assert (result.code, result.out) == (0, f"{output}\n")
    frames, fps = read_video(output)
    assert frames.shape == (17, 256, 256, 3) and fps == pytest.approx(8.0)


def test_every_option_reaches_the_pipeline(tmp_path, run, pipeline) -> None:
    image = write(np.full((1, 8, 8, 3), 90, np.uint8), tmp_path / "a.png", 1.0)
    write(np.full((9, 16, 16, 3), 90, np.uint8), tmp_path / "film.mp4", 8.0)
    plain = {
        "seed": 3, "guidance_scale": 2.5, "guidance_frames": 5, "temperature": 0.9, "top_k": 50,
        "top_p": 0.95, "rows": 1,
        "decoding": "sequential", "video": tmp_path / "film.mp4", "video_frames": 5, "num_frames": 9,
        "negative_prompt": "пёс", "first_frame_temperature": 1.1, "first_frame_top_k": 20,
        "first_frame_top_p": 0.9, "best_of": 4, "window": 16, "resize_policy": "contain", "border": 2,
    }  # fmt: skip
    options = [part for name, value in plain.items() for part in ("--" + name.replace("_", "-"), value)]
    flags = ["--truncate", "--keep-pixels", "--precision", "int8"]
    pictures = [
        "--image",
        image,
        "--last-image",
        image,
        "--keyframe",
        f"4={image}",
        "--keyframe",
        f"8={image}",
    ]
    result = run(
        "generate", "кот", "-o", tmp_path / "a.gif", *pictures, "--model", tmp_path, *options, *flags
    )
    assert result.code == 0
    load, call = pipeline.calls
    assert load == {"model": tmp_path, "precision": "int8"} and (call.pop("image") == 90).all()
    keyframes = call.pop("keyframes")
    assert (call.pop("last_image") == 90).all() and sorted(keyframes) == [4, 8]
    assert all((picture == 90).all() for picture in keyframes.values())
    assert call == {"prompt": "кот", "truncate": True, "keep_pixels": True, **plain}


def test_no_prompt_is_a_choice_of_its_own(tmp_path, run, pipeline) -> None:
    assert run("generate", "--unconditional", "-o", tmp_path / "a.png").code == 0
    assert pipeline.calls[1]["prompt"] is None
    result = run("generate", "кот", "--unconditional")
    assert result.code == 2 and "takes no prompt" in result.err


@pytest.mark.parametrize("argument", ["4", "x=a.png", "-4=a.png", "4=", "9" * 5000 + "=a.png"])
def test_a_keyframe_without_number_or_picture_is_refused(run, pipeline, argument) -> None:
    result = run("generate", "кот", f"--keyframe={argument}")
    assert result.code == 1 and "not of the form N=PICTURE" in result.err and pipeline.calls == []


def test_a_keyframe_given_twice_is_refused(tmp_path, run, pipeline) -> None:
    image = write(np.full((1, 8, 8, 3), 90, np.uint8), tmp_path / "a.png", 1.0)
    result = run("generate", "кот", "--keyframe", f"4={image}", "--keyframe", f"4={image}")
    assert result.code == 1 and "--keyframe 4 is given twice" in result.err and pipeline.calls == []


def test_precision_is_that_of_the_pipeline(tmp_path, run, pipeline) -> None:
    result = run("generate", "кот", "-o", tmp_path / "a.png", "--precision", "bfloat16", "--json")
    assert pipeline.calls[0]["precision"] == json.loads(result.out)["precision"] == "bfloat16"


def test_json_holds_the_facts_on_one_line(tmp_path, run, pipeline) -> None:
    result = run("generate", "кот", "-o", tmp_path / "a.png", "--json")
    facts = json.loads(result.out)
    assert result.out.count("\n") == 1 and facts["path"] == str(tmp_path / "a.png")
    assert (facts["frames"], facts["fps"], facts["seed"], facts["log_prob"]) == (17, 8.0, 0, -1.5)


def test_prompt_is_read_from_stdin_for_a_dash(tmp_path, run, pipeline, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("кот идёт\n"))
    assert run("generate", "-", "-o", tmp_path / "a.png").code == 0
    assert pipeline.calls[1]["prompt"] == "кот идёт"


def test_existing_output_is_kept_unless_overwriting_is_asked_for(tmp_path, run, pipeline) -> None:
    output = tmp_path / "a.gif"
    output.write_bytes(b"old")
    result = run("generate", "кот", "-o", output)
    assert result.code == 1 and "exists already" in result.err and output.read_bytes() == b"old"
    assert run("generate", "кот", "-o", output, "--overwrite").code == 0
    assert output.read_bytes()[:3] == b"GIF"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["", "-o", "a.mp4"], "prompt is empty"),
        (["   ", "-o", "a.mp4"], "prompt is empty"),
        (["12345", "-o", "a.mp4"], "must contain words"),
        (["слово " * 5000, "-o", "a.mp4"], "characters; at most"),
        (["кот", "-o", "a.mp4", "--image", "missing.png"], "missing.png does not exist"),
        (["кот", "-o", "a.mp4", "--image", "text.png"], "it looks like text"),
        (["кот", "-o", "a.mp4", "--image", "."], "not a regular file"),
        (["кот", "-o", "no/such/a.mp4"], "no folder"),
        (["кот", "-o", "text.png/a.mp4"], "no folder"),
        (["кот", "-o", "a.txt"], "known film suffix"),
        (["кот", "-o", "."], "known film suffix"),
        (["кот", "-o", "folder.mp4"], "is a folder"),
        (["кот", "-o", "a.mp4", "--video", "missing.mp4"], "missing.mp4 does not exist"),
        (["кот", "-o", "a.mp4", "--negative-prompt", "12"], "must contain words"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path, run, pipeline, monkeypatch, arguments, words
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("не картинка", encoding="utf-8")
    Path("folder.mp4").mkdir()
    before = sorted(tmp_path.rglob("*"))
    result = run("generate", *arguments)
    assert result.code == 1 and result.out == ""
    assert result.err.startswith("error: ") and result.err.count("\n") == 1 and words in result.err
    assert sorted(tmp_path.rglob("*")) == before
    assert pipeline.calls == [], "the model was loaded before the input was looked at"


@pytest.mark.parametrize(
    "arguments",
    [["generate"], ["generate", "кот", "--seed", "x"], ["generate", "кот", "--no-such"], ["bogus"], []],
)
def test_wrong_usage_exits_with_2_and_prints_nothing_as_a_result(run, pipeline, arguments) -> None:
    result = run(*arguments)
    assert result.code == 2 and "Usage: kinolenta" in result.err + result.out and pipeline.calls == []


def test_interruption_exits_with_130_and_leaves_nothing(tmp_path, run, pipeline, monkeypatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(pipeline), "__call__", interrupt)
    result = run("generate", "кот", "-o", tmp_path / "a.mp4")
    assert (result.code, result.out, result.err) == (130, "", "interrupted\n")
    assert list(tmp_path.iterdir()) == []
