"""Rules that read captions: right about all that our own grammar says, and about what it does not."""

import random

import pytest

from kinolenta.data.captions import caption
from kinolenta.data.sampling import sample_scene
from kinolenta.data.scene import IN_PLACE
from kinolenta.evaluation.wording import said_background, said_motion


@pytest.mark.parametrize("wording", ["train", "T3"])
def test_captions_are_read_as_they_are_meant(wording: str) -> None:
    rng = random.Random(wording)
    wrong = []
    for _ in range(3000):
        scene = sample_scene(rng)
        text = caption(scene, rng, wording)
        if said_background(text) != scene.background:
            wrong.append((scene.background, said_background(text), text))
        if scene.motion != IN_PLACE and said_motion(text) != scene.motion:
            wrong.append((scene.motion, said_motion(text), text))
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "motion", "background"),
    [
        ("Чёрная кошка крадётся влево, фон жёлтый", "left", "yellow"),
        ("мяч, который медленно поднимается над морем", "up", None),
        ("серая мышь на сером фоне растёт на глазах", "grow", "grey"),
        ("звезда падает на фоне ночного неба", "down", "night"),
        ("снеговик тает на синем фоне", "vanish", "blue"),
        ("на зелёном фоне чёрный гриб", None, "green"),
        ("розовая роза", None, None),
        ("", None, None),
    ],
)
def test_other_sentences_are_read_too(text: str, motion: str | None, background: str | None) -> None:
    assert (said_motion(text), said_background(text)) == (motion, background)
