"""Says a scene in natural Russian: one of many wordings, drawn with a given random generator.

The usual wording names the thing first: "рыжая кошка бежит вправо по траве". Nothing is said that the clip
does not show, and all that makes the scene is said, except the drawing style, which most captions leave out.
"""

import random
from dataclasses import dataclass

from kinolenta.data import phrases
from kinolenta.data.grammar import NounForms, adjective, noun_forms, noun_phrase, participle_with, verb_with
from kinolenta.data.phrases import MAYBE_DIRECTED, NO_PARTICIPLE, SELF_DIRECTED, Wording
from kinolenta.data.scene import COLOURS, WANDER, Noun, Scene, nouns
from kinolenta.data.splits import held_synonyms
from kinolenta.errors import DataError, require

WORDINGS = ("train", "T3")
# Orders of subject, verb, direction and place; "participle" and "request" build a noun phrase instead,
# "around" and "colour" say the background as a clause of its own.
_ORDERS = {
    "SVDP": 36,
    "SVPD": 10,
    "PSVD": 14,
    "PVDS": 12,
    "participle": 9,
    "around": 7,
    "colour": 6,
    "request": 6,
}
_HELD_ORDERS = ("SPVD", "DPVS")
_SYNONYM_SHARE, _STYLE_SHARE, _PREFIX_SHARE = 0.25, 0.15, 0.1
_HELD_SHARE = 0.6  # of the words of a T3 caption that have a held twin
_MAX_WORDS_BEFORE_SUBJECT = 2  # longer verb phrases do not stand before their subject


@dataclass
class _Speaker:
    """Draws words: those of training, or for T3 often the held ones."""

    rng: random.Random
    held: bool
    used_held: bool = False

    def say(self, wording: Wording) -> str:
        if self.held and wording.held and self.chance(_HELD_SHARE):
            self.used_held = True
            return self.rng.choice(wording.held)
        first, *rest = wording.common
        return first if not rest or self.rng.random() < 0.5 else self.rng.choice(rest)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share


@dataclass(frozen=True)
class _Parts:
    """What a sentence is made of; direction is empty where the verb has none."""

    noun: NounForms
    tint: str | None
    count: int
    adverb: str
    verb: str
    direction: str
    place: str


def caption(scene: Scene, rng: random.Random, wording: str = "train") -> str:
    """One caption of the scene, in the words of training or, for "T3", with some that training never uses.

    Raises DataError for a noun that nouns.tsv does not list or an unknown wording.
    """
    known = ", ".join(WORDINGS)
    require(wording in WORDINGS, DataError, "unknown wording {!r}; use one of {}", wording, known)
    table = nouns()
    require(scene.noun in table, DataError, "unknown noun {!r}; nouns.tsv lists the codes", scene.noun)
    speaker = _Speaker(rng, held=wording == "T3")
    noun = table[scene.noun]
    if scene.motion == WANDER:  # neither that nor the background can be said
        tint = phrases.tint(scene)
        forms = noun_forms()[noun.code, _name(scene, noun, speaker)]
        return noun_phrase(forms, speaker.say(tint) if tint else None, count=scene.count)
    parts = _parts(scene, noun, speaker)
    text = _sentence(scene, parts, _order(scene, parts, speaker), speaker)
    if speaker.chance(_STYLE_SHARE):
        text += ", " + speaker.say(phrases.STYLES[scene.style])
    if speaker.chance(0.5):
        text = text[0].upper() + text[1:]
    return text + "." if speaker.chance(0.4) else text


def _parts(scene: Scene, noun: Noun, speaker: _Speaker) -> _Parts:
    adverb = ""
    marked = phrases.marked_verb(scene, noun)
    if marked is not None and speaker.chance(0.35):
        verb = speaker.say(marked)
    else:
        verb = speaker.say(phrases.verb(scene, noun))
        adverb = speaker.say(phrases.SPEEDS[scene.speed]) if scene.speed else ""
    direction = ""
    if scene.motion in phrases.DIRECTIONS and verb not in SELF_DIRECTED:
        said = verb not in MAYBE_DIRECTED or speaker.chance(0.6)
        direction = speaker.say(phrases.DIRECTIONS[scene.motion]) if said else ""
    tint = phrases.tint(scene)
    place = speaker.say(phrases.place(scene))
    if scene.background in COLOURS:
        colour = speaker.say(phrases.TINTS[scene.background])
        place = place.format(at=adjective(colour, "at"), of=adjective(colour, "gen"))
    return _Parts(
        noun=noun_forms()[noun.code, _name(scene, noun, speaker)],
        tint=speaker.say(tint) if tint else None,
        count=scene.count,
        adverb=adverb,
        verb=verb,
        direction=direction,
        place=place,
    )


def _name(scene: Scene, noun: Noun, speaker: _Speaker) -> str:
    kept = held_synonyms()
    own = [word for word in noun.synonyms if (word in kept) == speaker.held]
    if scene.count > 1:
        own = [word for word in own if noun_forms()[noun.code, word].countable]
    if own and speaker.chance(_HELD_SHARE if speaker.held else _SYNONYM_SHARE):
        speaker.used_held |= speaker.held
        return speaker.rng.choice(own)
    return noun.name


def _order(scene: Scene, parts: _Parts, speaker: _Speaker) -> str:
    verb_length = parts.verb.count(" ") + 1
    if speaker.held and (not speaker.used_held or speaker.chance(0.5)):
        inverts = parts.direction and verb_length <= _MAX_WORDS_BEFORE_SUBJECT
        return speaker.rng.choice(_HELD_ORDERS if inverts else _HELD_ORDERS[:1])
    weights = dict(_ORDERS)
    if verb_length > _MAX_WORDS_BEFORE_SUBJECT or parts.verb.startswith("становится"):
        del weights["PVDS"]
    if parts.verb in NO_PARTICIPLE:
        del weights["participle"], weights["request"]
    if speaker.held:  # these leave the place out, which may be all that is new
        del weights["around"]
    if speaker.held or scene.background not in COLOURS:
        del weights["colour"]
    return speaker.rng.choices(list(weights), list(weights.values()))[0]


def _sentence(scene: Scene, parts: _Parts, order: str, speaker: _Speaker) -> str:
    if order in ("participle", "request"):
        return _noun_sentence(parts, speaker, accusative=order == "request")
    subject = noun_phrase(parts.noun, parts.tint, count=parts.count)
    verb = verb_with(parts.verb, parts.noun, count=parts.count)
    if parts.adverb:
        both = [parts.adverb, verb] if speaker.chance(0.75) or " " in verb else [verb, parts.adverb]
        verb = " ".join(both)
    pieces = {"S": subject, "V": verb, "D": parts.direction, "P": parts.place}
    plain = " ".join(pieces[key] for key in (order if order.isupper() else "SVD") if pieces[key])
    if order == "colour":
        colour = phrases.TINTS[scene.background].common[0]
        return f"{colour} фон{speaker.rng.choice((',', ':'))} {plain}"
    if speaker.chance(_PREFIX_SHARE):
        plain = f"{speaker.say(phrases.CLAUSE_PREFIXES)} {plain}"
    if order == "around":
        clause = speaker.say(phrases.surroundings(scene.background))
        return f"{plain}, {clause.format(**{'is': _colour_name(scene)})}"
    return plain


def _noun_sentence(parts: _Parts, speaker: _Speaker, *, accusative: bool) -> str:
    """ "рыжая кошка, бегущая вправо по траве" or "покажи рыжую кошку, бегущую вправо по траве"."""
    subject = noun_phrase(parts.noun, parts.tint, count=parts.count, accusative=accusative)
    doing = participle_with(parts.verb, parts.noun, count=parts.count, accusative=accusative)
    words = [parts.adverb, doing, parts.direction, parts.place]
    text = f"{subject}, {' '.join(word for word in words if word)}"
    if not accusative:
        return text
    request = speaker.say(phrases.REQUESTS)
    return f"{request} {text}"


def _colour_name(scene: Scene) -> str:
    return phrases.TINTS[scene.background].common[0] if scene.background in COLOURS else ""


_PAGE = """# Captions

{count} captions of training scenes, as drawn, each with the scene that it says. To make this page again:

    python -m kinolenta.data.captions {count} {seed} > docs/captions.md

| caption | thing | style | motion | background | tint | count | speed |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def sample_page(count: int, seed: int) -> str:
    """A page of Markdown with captions of sampled training scenes, for reading."""
    from kinolenta.data.sampling import sample_scene

    rng = random.Random(seed)
    lines = []
    for _ in range(count):
        scene = sample_scene(rng)
        cells = (
            caption(scene, rng),
            nouns()[scene.noun].name,
            scene.style,
            scene.motion,
            scene.background,
            scene.tint or "",
            str(scene.count),
            scene.speed or "",
        )
        lines.append("| " + " | ".join(cells) + " |\n")
    return _PAGE.format(count=count, seed=seed) + "".join(lines)


if __name__ == "__main__":
    import sys

    sys.stdout.write(sample_page(int(sys.argv[1]), int(sys.argv[2])))
