"""``kinolenta caption``, ``answer`` and ``score``."""

import json

import numpy as np
import pytest

from kinolenta.clip import Score
from kinolenta.media import write


@pytest.fixture
def film(tmp_path):
    return write(np.full((9, 16, 16, 3), 90, np.uint8), tmp_path / "film.mp4", 8.0)


@pytest.fixture
def reader(pipeline):
    pipeline.caption = lambda clip: f"читаю {clip.name}"
    pipeline.answer = lambda clip, question: f"{question} {clip.name}"
    pipeline.score = lambda clip, texts: [Score(float(len(text)), -1.5) for text in texts]
    return pipeline


def test_caption_is_the_result(run, reader, film) -> None:
    assert run("caption", film).out == "читаю film.mp4\n"
    facts = json.loads(run("caption", film, "--json").out)
    assert facts == {"path": str(film), "caption": "читаю film.mp4"}


def test_an_answer_is_the_result(run, reader, film) -> None:
    assert run("answer", film, "кто это?").out == "кто это? film.mp4\n"
    facts = json.loads(run("answer", film, "кто это?", "--json").out)
    assert facts == {"path": str(film), "question": "кто это?", "answer": "кто это? film.mp4"}


def test_scores_come_best_first(run, reader, film) -> None:
    lines = run("score", film, "кот", "котёнок").out.splitlines()
    assert [line.split()[-1] for line in lines] == ["котёнок", "кот"]
    assert lines[0].split()[:2] == ["+7.00", "-1.50"]
    rows = json.loads(run("score", film, "кот", "котёнок", "--json").out)["scores"]
    assert rows[1] == {"text": "кот", "gain": 3.0, "text_log_prob": -1.5}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["caption", "absent.mp4"], "absent.mp4 does not exist"),
        (["score", "absent.mp4", "кот"], "absent.mp4 does not exist"),
        (["answer", "absent.mp4", "кто это?"], "absent.mp4 does not exist"),
        (["answer", "FILM", "?"], "must contain words"),
        (["score", "FILM", "12"], "must contain words"),
    ],
)
def test_bad_input_is_refused_before_the_model_is_loaded(run, reader, film, arguments, words) -> None:
    result = run(*[film if argument == "FILM" else argument for argument in arguments])
    assert result.code == 1 and words in result.err and result.err.count("\n") == 1
    assert reader.calls == []
