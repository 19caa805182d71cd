"""German sentences about scenes: genders, cases and endings as they must be."""

from __future__ import annotations

from collections.abc import Mapping

from curation.sources.synthetic.phrase_book import Looks, PhraseBook

_NOUNS: Mapping[str, tuple[str, str, str]] = {
    "circle": ("Kreis", "m", "Kreise"),
    "square": ("Quadrat", "n", "Quadrate"),
    "triangle": ("Dreieck", "n", "Dreiecke"),
    "star": ("Stern", "m", "Sterne"),
    "cross": ("Kreuz", "n", "Kreuze"),
    "heart": ("Herz", "n", "Herzen"),
    "diamond": ("Raute", "f", "Rauten"),
    "ring": ("Ring", "m", "Ringe"),
    "background": ("Hintergrund", "m", ""),
    "meadow": ("Wiese", "f", ""),
    "desert": ("W\u00fcste", "f", ""),
    "sea": ("Meer", "n", ""),
}
"""Shape or scenery -> noun, gender, plural."""
_ADJECTIVES: Mapping[str, str] = {
    "red": "rot",
    "yellow": "gelb",
    "green": "gr\u00fcn",
    "blue": "blau",
    "purple": "violett",
    "pink": "pinkfarben",
    "brown": "braun",
    "black": "schwarz",
    "white": "wei\u00df",
    "grey": "grau",
    "small": "klein",
    "large": "gro\u00df",
    "plain": "einfarbig",
    "striped": "gestreift",
    "dotted": "gepunktet",
    "checked": "kariert",
    "shaded": "schattiert",
    "grainy": "k\u00f6rnig",
}
_ENDINGS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "m": {"nom": ("", "er"), "acc": ("en", "en"), "dat": ("em", "en")},
    "f": {"nom": ("e", "e"), "acc": ("e", "e"), "dat": ("er", "en")},
    "n": {"nom": ("", "es"), "acc": ("", "es"), "dat": ("em", "en")},
}
"""Gender -> case -> endings of the article and of the adjectives after it."""


def _spell(kind: str, looks: Looks) -> str:
    noun, gender, plural = _NOUNS[looks.shape]
    if kind == "two":
        return f"zwei {plural}"
    if kind == "bare":
        return noun
    article, case = (
        ("kein", kind.removeprefix("no_")) if kind.startswith("no_") else ("ein", kind.removeprefix("ground_"))
    )
    of_article, of_adjective = _ENDINGS[gender][case]
    said = [_ADJECTIVES[word] + of_adjective for word in (looks.size, looks.texture, looks.colour) if word]
    phrase = " ".join([article + of_article, *said, noun])
    if kind != "ground_dat":
        return phrase
    return f"auf {phrase}" if looks.shape == "background" else f"vor {phrase}"


_RELATIONS: Mapping[str, tuple[str, ...]] = {
    "left of": ("links von {b:dat}", "links neben {b:dat}"),
    "right of": ("rechts von {b:dat}", "rechts neben {b:dat}"),
    "above": ("\u00fcber {b:dat}", "oberhalb von {b:dat}"),
    "below": ("unter {b:dat}", "unterhalb von {b:dat}"),
    "inside": ("in {b:dat}", "innerhalb von {b:dat}"),
    "around": ("um {b:acc} herum",),
}
_PAIR = (
    "{a:nom} %",
    "{a:nom} ist %",
    "{a:nom} befindet sich %",
    "% ist {a:nom}",
    "% befindet sich {a:nom}",
    "man sieht {a:acc} %",
    "das Bild zeigt {a:acc} %",
    "es gibt {a:acc} %",
    "ein Bild mit {a:dat} %",
)
_LIST = ("% nom", "man sieht % acc", "das Bild zeigt % acc", "es gibt % acc", "ein Bild mit % dat")


def _listed(number: int) -> tuple[str, ...]:
    """Return the frames of a list of so many objects."""
    frames = []
    for frame in _LIST:
        text, _, case = frame.rpartition(" ")
        items = [f"{{{slot}:{case}}}" for slot in "abcd"[:number]]
        frames.append(text.replace("%", " und ".join(part for part in (", ".join(items[:-1]), items[-1]) if part)))
    return tuple(frames)


GERMAN = PhraseBook(
    code="de",
    spell=_spell,
    kinds={"a": ("nom", "acc", "dat"), "n": ("two",), "x": ("no_nom", "no_acc", "bare"), "p": ("ground_dat",)},
    pairs={
        relation: tuple(frame.replace("%", words) for frame in _PAIR for words in phrases)
        for relation, phrases in _RELATIONS.items()
    },
    lists={number: _listed(number) for number in range(1, 5)},
    counts=("{n:two} und {b:nom}", "man sieht {n:two} und {b:acc}", "das Bild zeigt {n:two} und {b:acc}"),
    denials=(
        "{a:nom}, aber {x:no_nom}",
        "{a:nom} ohne {x:bare}",
        "es gibt {x:no_acc}",
        "auf dem Bild ist {x:no_nom}",
        "man sieht {a:acc}, aber {x:no_acc}",
    ),
    placed=(
        "{a:nom} {p:ground_dat}",
        "{a:nom} ist {p:ground_dat}",
        "man sieht {a:acc} {p:ground_dat}",
        "ein Bild mit {a:dat} {p:ground_dat}",
    ),
)
