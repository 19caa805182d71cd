"""Small word lists of our own: colours, numbers, negations, nouns that name no thing, words that mean the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

COLOURS: Mapping[str, str] = {
    name: name
    for name in (
        "red", "blue", "green", "yellow", "black", "white", "brown", "purple", "pink", "orange", "grey", "beige", "tan",
        "gold", "silver", "maroon", "turquoise", "teal", "violet", "lavender", "blond", "navy", "crimson", "scarlet",
        "magenta", "khaki", "burgundy", "bronze", "aqua", "lime", "peach", "ivory", "cream",
    )
} | {
    "gray": "grey", "golden": "gold", "silvery": "silver", "blonde": "blond", "reddish": "red", "bluish": "blue",
    "greenish": "green", "yellowish": "yellow", "brownish": "brown", "greyish": "grey", "whitish": "white",
}  # fmt: skip
"""Word -> the colour it names."""

COLOURS_OR_THINGS = frozenset(
    {
        "orange", "gold", "silver", "tan", "rose", "violet", "lavender", "navy", "cream", "peach", "lime", "bronze", "khaki",
        "ivory", "blonde", "blond",
    }
)  # fmt: skip
"""Colours that also name a thing or a person: a colour only where the parse makes them one."""

NUMBERS: Mapping[str, int] = {
    word: value
    for value, word in enumerate(
        (
            "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
            "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
        )
    )
} | {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100,
     "dozen": 12, "couple": 2, "pair": 2, "duo": 2, "trio": 3, "twin": 2, "twins": 2}  # fmt: skip
COUNTING_NOUNS = frozenset({"couple", "pair", "duo", "trio", "dozen", "twin"})
"""Nouns that count when "of" follows; "a couple" alone are people."""
ALWAYS_PAIRED = frozenset(
    {
        "jeans", "pants", "trousers", "shorts", "glasses", "glass", "sunglasses", "scissors", "goggles", "ski", "shoe",
        "boot", "sock", "glove", "skate", "headphones", "binoculars", "tights", "eye", "hand", "legging", "pant", "short",
        "jean", "sunglass", "goggle", "trouser", "headphone", "sandal", "sneaker", "scissor", "tong",
    }
)  # fmt: skip
"""What comes in pairs: "a pair of jeans" does not count to two, and one or many are said alike."""
SAME_IN_PLURAL = frozenset(
    {
        "fish", "sheep", "deer", "people", "water", "snow", "grass", "hair", "clothing", "clothes", "wood", "stair", "step",
        "wave", "rock", "tree", "leaf", "flower", "bush", "plant", "mountain", "sand", "building", "light", "cloud",
        "weed", "wool", "ground", "road", "arm", "leg", "ear", "paw", "foot", "track", "rapid", "mid", "outdoors", "stone",
        "hill", "brush", "spectator", "other", "beads", "bead", "stripe",
    }
)  # fmt: skip
"""Nouns of stuff, scenery and parts: one or many of them is not counted by people who describe a picture."""

NEGATIONS = frozenset({"no", "not", "n't", "nt", "without", "never", "nobody", "none", "nothing", "neither", "nor"})
NEGATED: Mapping[str, str] = {
    "shirtless": "shirt", "topless": "shirt", "barefoot": "shoe", "barefooted": "shoe", "hatless": "hat",
    "leafless": "leaf", "treeless": "tree", "cloudless": "cloud", "sleeveless": "sleeve", "riderless": "rider",
}  # fmt: skip
"""Adjectives that deny a thing, and the thing."""

LIGHT_NOUNS = frozenset(
    {
        "photo", "photograph", "picture", "image", "snapshot", "scene", "background", "foreground", "distance", "side",
        "front", "back", "top", "middle", "center", "centre", "bottom", "edge", "corner", "left", "right", "end", "part",
        "piece", "kind", "type", "sort", "lot", "bunch", "number", "couple", "pair", "set", "way", "manner", "place", "spot",
        "one", "other", "something", "someone", "somebody", "anything", "moment", "action", "act", "motion", "group",
        "colour", "color", "variety", "series", "amount", "direction", "position", "process", "midst", "while", "use",
        "duo", "trio", "dozen", "each", "all", "both", "another", "attempt", "order", "sight", "task", "layer", "age", "form",
    }
)  # fmt: skip
"""Nouns that name nothing one could see by itself: they may come and go."""
IMPLIED_NOUNS = frozenset({"hand", "air"})
"""What holding and jumping imply: they may come, not go."""
VIEW_NOUNS = frozenset({"view", "shot", "close", "closeup", "close-up", "angle", "perspective", "portrait", "camera"})
"""Nouns about how the picture was taken: they may come only where that is what is varied."""

_PEOPLE: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("m", "adult", ("man", "guy", "gentleman", "fellow", "dude")),
    ("f", "adult", ("woman", "lady")),
    ("m", "young", ("boy",)),
    ("f", "young", ("girl",)),
    ("", "young", ("child", "kid", "youngster")),
    ("", "baby", ("baby", "infant")),
    ("", "baby", ("toddler",)),
    ("", "young", ("teenager", "teen", "adolescent")),
    ("", "", ("people", "persons", "folk", "folks")),
    ("", "", ("person", "individual")),
    ("m", "", ("male",)), ("f", "", ("female",)),
    ("m", "", ("father", "dad", "daddy")), ("f", "", ("mother", "mom", "mum", "mommy")),
    ("m", "", ("son",)), ("f", "", ("daughter",)), ("m", "", ("brother",)), ("f", "", ("sister",)),
    ("m", "", ("husband",)), ("f", "", ("wife",)), ("f", "", ("bride",)), ("m", "", ("groom",)),
    ("m", "", ("cowboy",)), ("f", "", ("cowgirl",)), ("m", "", ("grandfather", "grandpa")),
    ("f", "", ("grandmother", "grandma")), ("m", "", ("king",)), ("f", "", ("queen",)),
)  # fmt: skip
_THINGS: tuple[tuple[str, ...], ...] = (
    ("bicycle", "bike"), ("motorcycle", "motorbike"), ("car", "automobile"), ("airplane", "plane", "aeroplane", "aircraft"),
    ("dog", "canine", "doggy"), ("puppy", "pup"), ("cat", "kitty"), ("couch", "sofa"), ("rock", "stone"),
    ("street", "road"), ("sea", "ocean"), ("forest", "wood"), ("sidewalk", "pavement"), ("path", "trail", "pathway"),
    ("pants", "trousers", "trouser", "pant"), ("coat", "jacket"), ("bush", "shrub"), ("store", "shop"),
    ("truck", "lorry"), ("television", "tv"), ("phone", "telephone", "cellphone", "cell"), ("rabbit", "bunny"),
    ("soccer", "football"), ("ball", "soccerball"), ("hill", "slope", "hillside"), ("lawn", "grass"),
    ("lake", "pond"), ("stream", "creek", "brook"), ("river", "rapid"), ("sneaker", "trainer"),
    ("snowboarder", "boarder"), ("skateboarder", "skater"), ("biker", "cyclist", "bicyclist"), ("crowd", "audience"),
    ("photographer", "cameraman"), ("hat", "cap"), ("mug", "cup"), ("shore", "shoreline", "seashore"),
    ("beach", "seaside"), ("sled", "sleigh", "sledge"), ("boat", "vessel"), ("garbage", "rubbish", "trash"),
    ("bathtub", "tub"), ("frisbee", "disc", "disk"), ("pool", "swimming-pool"), ("steps", "stair", "step", "staircase"),
    ("mountain", "mount"), ("field", "meadow"), ("rider", "horseman"), ("swimsuit", "bathing-suit"),
)  # fmt: skip
_CLASS: dict[str, str] = {word: group[0] for _, _, group in _PEOPLE for word in group} | {
    word: group[0] for group in _THINGS for word in group
}
GENDERS: Mapping[str, str] = {word: gender for gender, _, group in _PEOPLE for word in group if gender} | {
    "he": "m", "his": "m", "him": "m", "himself": "m", "she": "f", "her": "f", "hers": "f", "herself": "f",
    "men": "m", "women": "f", "boys": "m", "girls": "f",
}  # fmt: skip
_AGES: Mapping[str, str] = {word: age for _, age, group in _PEOPLE for word in group if age}
PEOPLE = frozenset(word for _, _, group in _PEOPLE for word in group)

OPPOSITES: tuple[tuple[str, str], ...] = (
    ("young", "old"), ("young", "elderly"), ("big", "small"), ("large", "small"), ("big", "little"), ("large", "little"),
    ("huge", "small"), ("huge", "tiny"), ("wet", "dry"), ("open", "closed"), ("indoors", "outdoors"), ("tall", "short"),
    ("full", "empty"), ("happy", "sad"), ("dark", "light"), ("clean", "dirty"), ("long", "short"), ("day", "night"),
    ("left", "right"), ("above", "below"), ("above", "under"), ("over", "under"), ("over", "below"), ("up", "down"),
    ("inside", "outside"), ("uphill", "downhill"), ("front", "behind"), ("into", "out"), ("onto", "off"),
    ("sitting", "standing"), ("asleep", "awake"), ("sit", "stand"), ("male", "female"), ("indoor", "outdoor"),
    ("hot", "cold"), ("thin", "fat"), ("sunny", "rainy"), ("sunny", "cloudy"), ("smile", "frown"), ("push", "pull"),
    ("walk", "run"), ("run", "sit"), ("swim", "run"), ("push", "carry"), ("run", "sleep"), ("run", "lie"),
    ("jump", "sit"), ("lie", "sit"), ("lie", "stand"), ("walk", "stand"), ("walk", "sit"), ("past", "through"), ("past", "into"),
    ("over", "on"), ("lie", "run"), ("lie", "jump"), ("jump", "lie"), ("jump", "sleep"), ("climb", "fall"), ("run", "stand"), ("swim", "fly"),
)  # fmt: skip
"""Words that cannot both be said of one thing at one time."""
CONVERSES = frozenset({"left", "right", "above", "below", "under", "over", "front", "behind", "inside", "outside"})
"""Opposites that say the same again when the two things change places."""

SMALL_WORDS = frozenset(
    {
        "a", "an", "the", "and", "or", "but", "nor", "so", "of", "in", "on", "at", "by", "for", "to", "from", "with",
        "into", "onto", "over", "under", "above", "below", "near", "off", "up", "down", "out", "through", "across",
        "along", "around", "behind", "beside", "between", "beneath", "inside", "outside", "against", "before",
        "after", "while", "as", "is", "are", "was", "were", "be", "been", "being", "has", "have", "had", "do", "does",
        "did", "that", "which", "who", "whose", "whom", "this", "these", "those", "there", "it", "its", "he", "she",
        "they", "his", "her", "him", "them", "their", "we", "our", "us", "you", "your", "i", "my", "me", "not", "no",
        "without", "what", "where", "when", "than", "then", "too", "very", "both", "each", "every", "all", "some",
        "any", "another", "other", "one's", "amid", "among", "upon", "toward", "towards", "within", "during", "like",
        "because", "if", "about",
    }
)  # fmt: skip
"""Words that no dictionary of inflections holds."""

LIGHT_VERBS = frozenset(
    {
        "be", "have", "do", "go", "make", "take", "get", "see", "show", "depict", "picture", "photograph", "wear", "appear",
        "use", "let", "contain", "include", "locate", "place", "dress", "look", "keep", "begin", "start", "come", "pose", "move",
        "try", "continue", "remain", "engage", "happen", "feature", "capture", "can", "will", "put", "set", "own", "near",
        "consist", "belong", "need", "act", "say", "enjoy", "manage", "find", "name", "call", "describe", "view",
    }
)  # fmt: skip
"""Verbs that tell of no action by themselves: they may come."""
_DEEDS: tuple[tuple[str, ...], ...] = (
    ("jump", "leap", "hop", "bound", "vault"), ("run", "sprint", "race", "dash", "jog"), ("walk", "stroll", "step", "wander", "stride"),
    ("sit", "seat", "perch"), ("lie", "lay", "recline"), ("throw", "toss", "hurl", "fling"), ("catch", "grab", "snatch"),
    ("hold", "carry", "grip", "grasp", "clutch"), ("chase", "pursue"), ("talk", "speak", "chat", "converse"), ("smile", "grin"),
    ("watch", "stare", "gaze", "observe", "peer", "look"), ("climb", "scale", "ascend"), ("fly", "soar"), ("pull", "drag", "tow"),
    ("rest", "relax", "lean"), ("ride", "cycle", "bike"), ("paddle", "row", "canoe", "kayak"), ("eat", "chew", "munch"),
    ("enter", "walk"), ("cross", "walk"), ("shout", "yell", "scream"), ("sleep", "nap"), ("travel", "drive", "ride"),
    ("skate", "skateboard", "rollerblade"), ("play", "romp"), ("surround", "gather"), ("wait", "stand"), ("wade", "walk"),
    ("stand", "pose"), ("cut", "slice", "chop"), ("cover", "top"), ("fill", "load"), ("slide", "glide"), ("hang", "dangle"),
    ("push", "shove"), ("hug", "embrace"), ("fight", "wrestle"), ("ski", "snowboard"), ("splash", "play"), ("pass", "drive"),
)  # fmt: skip
BEINGS = frozenset({"stand", "sit", "lie", "rest", "hang", "park", "perch", "situate"})
"""How a thing is somewhere: any of them is said of what cannot act."""


def same_deed(verb: str, others: Iterable[str]) -> bool:
    """Say whether a verb tells what one of the other words tells, by our own list."""
    have = set(others)
    return verb in have or any(verb in group and have.intersection(group) for group in _DEEDS)


def doing(word: str) -> str:
    """Return the verb in a noun such as "surfer" or "rider"; the word where there is none."""
    for stem in (word.removesuffix("er"), word.removesuffix("r"), word.removesuffix("er")[:-1]):
        if word.endswith("er") and len(stem) > 2 and verb_lemma(stem) == stem and is_english(stem):
            return stem
    return word


def noun_class(lemma: str) -> str:
    """Return the name of the nouns that mean the same, by our own list; the noun itself when it is in none."""
    return _CLASS.get(lemma, lemma)


def same_people(one: str, other: str) -> bool:
    """Say whether nothing known of two nouns' gender and age forbids that they name one person."""
    return all(
        one not in table or other not in table or table[one] == table[other] for table in (GENDERS, _AGES)
    ) and not (one in _AGES and other not in PEOPLE and other in GENDERS)


@lru_cache(maxsize=65536)
def noun_lemma(word: str) -> str:
    """Return a noun's dictionary form ("men" gives "man"), whatever the parser made of it."""
    from lemminflect import getLemma

    low = word.lower()
    return str((getLemma(low, upos="NOUN") or (low,))[0])


@lru_cache(maxsize=65536)
def verb_lemma(word: str) -> str:
    """Return a verb's dictionary form ("riding" gives "ride", where the parser says "rid")."""
    from lemminflect import getLemma

    low = word.lower()
    return str((getLemma(low, upos="VERB") or (low,))[0])


@lru_cache(maxsize=65536)
def is_english(word: str) -> bool:
    """Say whether the dictionary of inflections knows a word."""
    from lemminflect import getAllLemmas

    return bool(getAllLemmas(word.lower()))


def made_of(adjective: str) -> str:
    """Return the noun in an adjective such as "snowy", "sunny" or "wooden"; the adjective where there is none."""
    for ending in ("y", "en"):
        stem = adjective.removesuffix(ending)
        if stem == adjective or len(stem) < 3:
            continue
        for noun in (stem, stem[:-1] if stem[-1] == stem[-2] else stem, f"{stem}e"):
            if noun_lemma(noun) == noun and is_english(noun):
                return noun
    return adjective


def number_value(word: str) -> int | None:
    """Return what a number word or plain digits count to; None for other words."""
    low = word.lower()
    if low.isascii() and low.isdigit() and len(low) <= 6:
        return int(low)
    return NUMBERS.get(low)


def opposed(words: Iterable[str]) -> dict[str, set[str]]:
    """Return, for a text's words, which words would say the opposite of one of them."""
    have = set(words)
    found: dict[str, set[str]] = {}
    for one, other in OPPOSITES:
        if one in have:
            found.setdefault(other, set()).add(one)
        if other in have:
            found.setdefault(one, set()).add(other)
    return found
