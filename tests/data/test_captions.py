"""Captions: agreement on chosen cases, the usual wording, the held wordings, and the tables of forms."""

import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from kinolenta.data import phrases
from kinolenta.data.captions import _HELD_ORDERS, _ORDERS, caption, sample_page
from kinolenta.data.grammar import (
    NounForms,
    adjective,
    noun_forms,
    noun_phrase,
    participle_with,
    verb_forms,
    verb_with,
)
from kinolenta.data.sampling import sample_scene
from kinolenta.data.scene import BACKGROUNDS, IN_PLACE, MOTIONS, SPEEDS, Scene, nouns
from kinolenta.data.splits import held_synonyms
from kinolenta.errors import DataError

CODES = {noun.name: noun.code for noun in nouns().values()}
CAT = Scene(noun=CODES["кошка"], style="noto", motion="right", background="grass", tint="orange")


def forms(name: str, word: str | None = None) -> NounForms:
    return noun_forms()[CODES[name], word or name]


def captions(scene: Scene, count: int = 300, wording: str = "train") -> list[str]:
    rng = random.Random(0)
    return [caption(scene, rng, wording).lower().rstrip(".") for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "word", "tint", "count", "nominative", "accusative"),
    [
        ("кошка", "кошка", "рыжий", 1, "рыжая кошка", "рыжую кошку"),
        ("кошка", "кот", "рыжий", 1, "рыжий кот", "рыжего кота"),
        ("кошка", "кот", None, 2, "два кота", "двух котов"),
        ("кошка", "кошка", "рыжий", 2, "две рыжие кошки", "двух рыжих кошек"),
        ("лошадь", "лошадь", "синий", 3, "три синие лошади", "трех синих лошадей"),
        (
            "воздушный шарик",
            None,
            "голубой",
            2,
            "два голубых воздушных шарика",
            "два голубых воздушных шарика",
        ),
        ("летучая мышь", None, "синий", 2, "две синие летучие мыши", "двух синих летучих мышей"),
        ("звезда", None, "синий", 2, "две синие звезды", "две синие звезды"),
        ("облако", None, "синий", 1, "синее облако", "синее облако"),
        ("облако", None, "розовый", 3, "три розовых облака", "три розовых облака"),
        ("ножницы", None, "синий", 1, "синие ножницы", "синие ножницы"),
        ("такси", None, "голубой", 2, "два голубых такси", "два голубых такси"),
        ("лама", None, "рыжий", 1, "рыжая лама", "рыжую ламу"),
        ("Дед Мороз", None, None, 1, "Дед Мороз", "Деда Мороза"),
        ("шарф", None, "синий", 1, "синий шарф", "синий шарф"),
        ("пицца", None, None, 2, "две пиццы", "две пиццы"),
        ("дерево", None, "бурый", 2, "два бурых дерева", "два бурых дерева"),
    ],
)
def test_noun_phrases_agree(
    name: str, word: str | None, tint: str | None, count: int, nominative: str, accusative: str
) -> None:
    noun = forms(name, word)
    assert noun_phrase(noun, tint, count=count) == nominative
    assert noun_phrase(noun, tint, count=count, accusative=True) == accusative


def test_verbs_and_participles_agree_with_their_subject() -> None:
    scissors, cat, tom, tree = forms("ножницы"), forms("кошка"), forms("кошка", "кот"), forms("дерево")
    assert verb_with("крутится", scissors) == "крутятся"
    assert verb_with("появляется", tree) == "появляется"
    assert verb_with("не двигается", cat, count=2) == "не двигаются"
    assert verb_with("машет хвостом", cat, count=2) == "машут хвостом"
    assert participle_with("бежит", cat) == "бегущая"
    assert participle_with("бежит", tom, accusative=True) == "бегущего"
    assert participle_with("крутится", cat, accusative=True) == "крутящуюся"
    assert participle_with("крутится", scissors, accusative=True) == "крутящиеся"
    assert participle_with("машет хвостом", tom, count=2, accusative=True) == "машущих хвостом"
    assert participle_with("не двигается", tree) == "не двигающееся"


def test_adjectives_of_every_type() -> None:
    assert [adjective("красный", f) for f in ("f", "n", "pl", "gen", "at")] == [
        "красная",
        "красное",
        "красные",
        "красного",
        "красном",
    ]
    assert [adjective("синий", f) for f in ("f", "n", "acc_f", "gen_pl", "at")] == [
        "синяя",
        "синее",
        "синюю",
        "синих",
        "синем",
    ]
    assert [adjective("голубой", f) for f in ("m", "f", "at")] == ["голубой", "голубая", "голубом"]
    assert [adjective("рыжий", f) for f in ("f", "n", "acc_f", "at")] == ["рыжая", "рыжее", "рыжую", "рыжем"]
    with pytest.raises(DataError, match="cannot decline"):
        adjective("кошка", "f")


def test_uncountable_nouns_and_counts_out_of_range_are_refused() -> None:
    with pytest.raises(DataError, match="not countable"):
        noun_phrase(forms("ножницы"), None, count=2)
    with pytest.raises(DataError, match="count is 4"):
        noun_phrase(forms("кошка"), None, count=4)


def test_the_sentence_of_the_readme_is_a_usual_caption() -> None:
    said = Counter(captions(CAT, 4000))
    assert said["рыжая кошка бежит вправо по траве"] >= 8
    assert sum(text.startswith("рыжая кошка") for text in said.elements()) > 1600


@pytest.mark.parametrize(
    ("name", "motion", "background", "expected"),
    [
        ("дерево", "appear", "white", "дерево появляется на белом фоне"),
        ("ножницы", "rotate_cw", "blue", "ножницы вращаются по часовой стрелке на синем фоне"),
        ("лошадь", "still", "grass", "лошадь стоит на траве"),
        ("яблоко", "still", "sand", "яблоко лежит на песке"),
        ("звезда", "still", "night", "звезда висит в ночном небе"),
        ("дельфин", "left", "sea", "дельфин плывет влево по морю"),
        ("ракета", "up", "sky", "ракета летит вверх в небе"),
        ("змея", "right", "sand", "змея ползет вправо по песку"),
        ("автобус", "left", "snow", "автобус едет влево по снегу"),
        ("черепаха", IN_PLACE, "sand", "черепаха прячется в панцирь на песке"),
        ("песочные часы", IN_PLACE, "white", "песочные часы переворачиваются на белом фоне"),
    ],
)
def test_usual_captions(name: str, motion: str, background: str, expected: str) -> None:
    scene = Scene(noun=CODES[name], style="noto", motion=motion, background=background)
    assert expected in captions(scene, 800)


def test_speed_is_said_and_only_if_there_is_one() -> None:
    slow = "медленно|неспешно|не спеша|бредет|парит"
    fast = "быстро|стремительно|мчится|несется|мчащ|несущ"
    scene = replace(CAT, speed="slow")
    slowly = [text for text in captions(scene) if "бредущ" not in text]
    assert all(re.search(slow, text) and not re.search(fast, text) for text in slowly)
    assert all(re.search(fast, text) for text in captions(replace(CAT, speed="fast")))
    assert not any(re.search(f"{slow}|{fast}", text) for text in captions(CAT))


def test_a_caption_is_a_function_of_the_seed() -> None:
    scenes = [sample_scene(random.Random(i)) for i in range(50)]
    first = [caption(scene, random.Random(i)) for i, scene in enumerate(scenes)]
    assert first == [caption(scene, random.Random(i)) for i, scene in enumerate(scenes)]
    assert len(set(first)) == 50


def test_every_noun_says_every_motion_before_every_background() -> None:
    rng = random.Random(0)
    for number, noun in enumerate(nouns().values()):
        for motion in (*MOTIONS, *([IN_PLACE] if noun.animated else [])):
            background = BACKGROUNDS[number % len(BACKGROUNDS)]
            speed = SPEEDS[number % 2] if motion in ("left", "right", "up", "down") else None
            scene = Scene(noun=noun.code, style="noto", motion=motion, background=background, speed=speed)
            for wording in ("train", "T3"):
                text = caption(scene, rng, wording)
                assert re.fullmatch(r"[А-Яа-я][А-Яа-я ,:\-]*[а-я]\.?", text), text
                assert "  " not in text


def test_training_captions_never_use_a_held_word() -> None:
    rng = random.Random(1)
    held = {word for wording in phrases.slots() for word in wording.held}
    common = {word for wording in phrases.slots() for word in wording.common}
    only_held = [w for w in held - common if w not in ("тает", "движется", "перемещается", "спускается")]
    assert len(only_held) > 20
    for _ in range(600):
        text = caption(sample_scene(rng), rng).lower()
        assert not any(re.search(rf"\b{re.escape(word)}\b", text) for word in only_held), text
        assert not any(re.search(rf"\b{word}\b", text) for word in held_synonyms() if " " not in word), text


def test_t3_captions_always_say_something_new() -> None:
    train = set(captions(CAT, 6000))
    fresh = captions(CAT, 300, "T3")
    assert not [text for text in fresh if text in train]
    assert len(set(fresh)) > 100


def test_word_orders_and_share_of_held_wordings() -> None:
    assert len(_ORDERS) >= 6 and len(_HELD_ORDERS) == 2
    assert _ORDERS["SVDP"] / sum(_ORDERS.values()) == pytest.approx(0.35, abs=0.03)
    slots = [w for w in phrases.slots() if len(w.common) > 1]
    held, everything = sum(len(w.held) for w in slots), sum(len(w.held) + len(w.common) for w in slots)
    assert 0.12 < held / everything < 0.28


def test_unknown_wording_and_noun_are_named() -> None:
    with pytest.raises(DataError, match="unknown wording 'T9'"):
        caption(CAT, random.Random(0), "T9")
    with pytest.raises(DataError, match="unknown noun 'ffff'"):
        caption(replace(CAT, noun="ffff"), random.Random(0))


def test_form_tables_cover_all_words() -> None:
    assert {(n.code, w) for n in nouns().values() for w in (n.name, *n.synonyms)} == set(noun_forms())
    assert set(phrases.all_verbs()) <= set(verb_forms())
    assert {n.in_place_verb for n in nouns().values() if n.animated} <= set(verb_forms())
    assert all(bool(n.in_place_verb) == n.animated for n in nouns().values())


def test_form_tables_are_what_the_dictionary_says() -> None:
    pytest.importorskip("pymorphy3")
    from kinolenta.data import inflect

    for code, word in [
        (CODES["летучая мышь"], "летучая мышь"),
        (CODES["кошка"], "кот"),
        (CODES["ножницы"], "ножницы"),
    ]:
        _, _, gender, animate, countable, accusative, two, many = inflect.noun_row(code, word)
        noun = noun_forms()[code, word]
        assert (gender, animate == "1", countable == "1") == (noun.gender, noun.animate, noun.countable)
        assert (accusative, two, many) == (noun.accusative, noun.two, noun.many)
    assert inflect.verb_row("машет хвостом") == ["машет хвостом", "машут хвостом", "машущий хвостом"]


def test_the_page_of_samples_is_up_to_date() -> None:

    page = Path(__file__).parents[2] / "docs" / "captions.md"
    assert page.read_text(encoding="utf-8") == sample_page(100, 0)
