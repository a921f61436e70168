"""The one place where text is made uniform, before any id is made of it.

The vocabulary on disk holds no normaliser of its own: what is done here is all that is done, in training as
in use. The invariant: ``normalize(normalize(text)) == normalize(text)``.
"""

import re
import unicodedata

# Characters that draw nothing: soft hyphen, grapheme joiner, zero-width space and non-joiner, word joiner and
# the invisible operators, byte order mark, Mongolian vowel separator; then all that sets the direction of
# writing.
_INVISIBLE = (
    "\u00ad\u034f\u200b\u200c\u2060\u2061\u2062\u2063\u2064\ufeff\u180e"
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"
)
# Symbols that may stand in an emoji sequence; a little wider than Unicode's list, which no regular expression
# names.
_EMOJI = (
    "\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\U0001f000-\U0001f3fa\U0001f400-\U0001faff"
)
_MODIFIERS = "\ufe0f\U0001f3fb-\U0001f3ff"  # emoji presentation, skin tones

_DROPPED = re.compile(
    f"[{_INVISIBLE}]"
    f"|(?<![{_EMOJI}{_MODIFIERS}])\u200d"  # a zero-width joiner that joins no emoji
    f"|\u200d(?![{_EMOJI}])"
    "|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0000-\U000e007f]+"  # tag letters, but for those of a flag
)
# Yo with the signs after it: a second diaeresis among its marks would make a yo again.
_YO = re.compile(r"ё([^\w\s]*)")


def normalize(text: str) -> str:
    r"""Text as the tokenizer sees it: composed (NFC), lower case, without the letter yo, evenly spaced.

    Soft hyphens, zero-width and bidirectional controls go; a zero-width joiner stays inside an emoji. Every
    run of white space becomes one space, none at the ends. The result may be empty.

    Examples:
    >>> normalize("Рыжая КОШКА")  # lower case
    'рыжая кошка'
    >>> normalize("Ёж и её ёлка"), normalize("е\u0308ж")  # yo, composed or not
    ('еж и ее елка', 'еж')
    >>> normalize("и\u0306од") == "йод"  # a letter and its breve become one
    True
    >>> normalize("  кот\t\n бежит\u00a0вправо ")  # white space
    'кот бежит вправо'
    >>> normalize("па\u00adро\u200bвоз\ufeff")  # soft hyphen, zero-width space, byte order mark
    'паровоз'
    >>> normalize("\u202eтекст\u202c")  # writing direction
    'текст'
    >>> normalize("я\u200d \U0001f469\u200d\U0001f680") == "я \U0001f469\u200d\U0001f680"  # joiners
    True
    >>> normalize("<EOT> №5 — «Да»!")  # signs stay as they are
    '<eot> №5 — «да»!'
    >>> normalize(" \u200b ")
    ''
    """
    # One pass nearly always suffices. What is removed can bring a letter and a mark together, and lower case
    # can give a letter that composes anew, so the passes go on until nothing changes; each one but the last
    # shortens something.
    while (result := _one_pass(text)) != text:
        text = result
    return text


def _one_pass(text: str) -> str:
    text = unicodedata.normalize("NFC", _DROPPED.sub("", text)).lower()
    text = _YO.sub(_ye, unicodedata.normalize("NFC", text))
    return " ".join(text.split())


def _ye(match: re.Match[str]) -> str:
    return "е" + match[1].replace("\u0308", "")
