"""Tasks that need a long context, made on the spot from a seed, after RULER (Hsieh et al. 2024, arXiv 2404.06654).

A sheet is a document of a wanted length and several questions about it, each with four choices, so that guessing gives 1/4:

    needle            sentences "The magic word of Paris is lion." in other text: which is the word of a city?
    variables         "VAR Anna = red." … "VAR Carl = Anna.": how does "VAR Carl = Anna =" go on?
    passages          SciQ's questions, their passages among others
    common words      a list in which six words are ten times as frequent as the others
    frequent words    a list of coined words whose frequency falls as the square of their rank: which are the first three?

Other text is held-out text. A small model is asked for the likeliest choice, not to write. A document is read once for all of its
questions, so the sheet, not the question, is the independent sample.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from puzzledsl.data.tasks import Item

HAYSTACK = ("needle", "variables", "passages")
"""Tasks whose facts stand in one document."""
LISTS = ("common words", "frequent words")
TASKS = HAYSTACK + LISTS
CHOICES = 4
FACTS = 5
"""Needles of a document, and variables."""
PASSAGES = 2
COMMON, FREQUENT = 6, 3
COMMONER = 10
"""How many times as often a common word comes as another one."""

CITIES = "Paris London Rome Berlin Madrid Moscow Tokyo Cairo Sydney Boston Chicago Toronto Dublin Vienna Athens".split()
ANIMALS = "lion tiger horse dog cat bear wolf sheep goat duck mouse snake rabbit monkey eagle".split()
NAMES = "Anna Carl David Emma Frank Grace Henry Jack Karen Laura Maria Nick Oscar Peter Sarah Tom".split()
COLOURS = "red blue green white black brown pink orange purple yellow gold silver gray".split()
WORDS = (
    "apple table river chair window garden paper bottle stone cloud bread letter music winter summer doctor teacher market "
    "bridge forest island mountain flower kitchen pencil camera basket ticket button candle mirror carpet blanket hammer ladder "
    "engine wheel rocket planet desert ocean valley village castle temple harbor"
).split()
SYLLABLES = tuple(a + b for a, b in itertools.product("bdfgklmnprstvz", "aeiou"))


@dataclass(frozen=True)
class Sheet:
    """A document's questions; all contexts begin with the document. `tasks` names the task of each."""

    items: tuple[Item, ...]
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Material:
    """Texts that sheets are made of, and the measure of their length.

    Attributes:
        passages: Held-out text, sentences of which fill documents.
        questions: Multiple-choice questions whose context is a passage, a line break and a question.
        tokens: The number of tokens of a text.
    """

    passages: Sequence[str]
    questions: Sequence[Item]
    tokens: Callable[[str], int]


def haystack(material: Material, length: int, draw: random.Random) -> Sheet:
    """Facts and passages spread evenly at random over sentences of other text, of `length` tokens altogether."""
    cities, animals = draw.sample(CITIES, FACTS), draw.sample(ANIMALS, FACTS)
    needles = [f"The magic word of {city} is {animal}." for city, animal in zip(cities, animals, strict=True)]
    names, colours = draw.sample(NAMES, 2 * FACTS), draw.sample(COLOURS, FACTS)
    first, second = names[:FACTS], names[FACTS:]
    given = [f"VAR {name} = {colour}." for name, colour in zip(first, colours, strict=True)]
    copied = [f"VAR {name} = {source}." for name, source in zip(second, first, strict=True)]
    asked = draw.sample(material.questions, PASSAGES)
    passages = [item.contexts[0].rpartition("\nQuestion:")[0] for item in asked]
    facts = [[needle] for needle in needles] + [list(pair) for pair in zip(given, copied, strict=True)]
    facts += [[passage] for passage in passages if passage]
    document = _spread(facts, material, length, draw)
    items = [
        Item(f"{document}\n\nThe magic word of {city} is", *_among(animal, animals, draw))
        for city, animal in zip(cities, animals, strict=True)
    ]
    items += [
        Item(f"{document}\n\nVAR {name} = {source} =", *_among(colour, colours, draw))
        for name, source, colour in zip(second, first, colours, strict=True)
    ]
    questions = [item.contexts[0].rpartition("\nQuestion:")[2] for item in asked]
    items += [
        Item(f"{document}\n\nQuestion:{question}", item.choices, item.answer)
        for question, item in zip(questions, asked, strict=True)
    ]
    return Sheet(tuple(items), ("needle",) * FACTS + ("variables",) * FACTS + ("passages",) * len(asked))


def common_words(material: Material, length: int, draw: random.Random) -> Sheet:
    """A list of `length` tokens in which COMMON words come COMMONER times as often as each other word."""
    words = draw.sample(WORDS, len(WORDS))
    common, others = words[:COMMON], words[COMMON:]
    weights = [COMMONER] * COMMON + [1] * len(others)
    document = _listed(words, weights, material, length, draw)
    question = f"{document}\n\nA word that comes very often in this list is"
    items = [
        Item(question, *_among(word, [word, *draw.sample(others, CHOICES - 1)], draw)) for word in common
    ]
    return Sheet(tuple(items), ("common words",) * COMMON)


def frequent_words(material: Material, length: int, draw: random.Random) -> Sheet:
    """A list of `length` tokens of coined words, their frequency as 1 / rank²; the first FREQUENT are asked for."""
    words = ["".join(draw.sample(SYLLABLES, 2)) for _ in range(4 * FREQUENT)]
    weights = [1 / rank**2 for rank in range(1, len(words) + 1)]
    document = _listed(words, weights, material, length, draw)
    question = f"{document}\n\nA word that comes very often in this list is"
    rare = words[2 * FREQUENT :]
    items = [
        Item(question, *_among(word, [word, *draw.sample(rare, CHOICES - 1)], draw))
        for word in words[:FREQUENT]
    ]
    return Sheet(tuple(items), ("frequent words",) * FREQUENT)


MAKERS = (haystack, common_words, frequent_words)
KINDS = len(MAKERS)


def sheets(material: Material, length: int, count: int, seed: int) -> list[Sheet]:
    """So many sheets of each kind, the same for the same seed everywhere."""
    return [
        make(material, length, random.Random(f"{make.__name__} {length} {seed} {number}"))
        for number in range(count)
        for make in MAKERS
    ]


def _among(right: str, candidates: Sequence[str], draw: random.Random) -> tuple[tuple[str, ...], int]:
    """CHOICES of the candidates, the right one among them, and its index."""
    wrong = draw.sample([word for word in candidates if word != right], CHOICES - 1)
    answer = draw.randrange(CHOICES)
    return (*wrong[:answer], right, *wrong[answer:]), answer


def _spread(facts: Sequence[Sequence[str]], material: Material, length: int, draw: random.Random) -> str:
    """Sentences of passages with the facts between them; those of one list keep their order."""
    room = length - sum(material.tokens(" " + text) for fact in facts for text in fact)
    filler: list[str] = []
    for passage in draw.sample(material.passages, len(material.passages)):
        for sentence in passage.replace("\n", " ").split(". "):
            size = material.tokens(f" {sentence}.")
            if size > room:
                break
            filler.append(sentence.rstrip(".") + ".")
            room -= size
        if room < 24:
            break
    placed = [((number + 0.5) / len(filler), sentence) for number, sentence in enumerate(filler)]
    for fact in facts:
        placed += zip(sorted(draw.random() for _ in fact), fact, strict=True)
    return " ".join(sentence for _, sentence in sorted(placed))


def _listed(
    words: Sequence[str], weights: Sequence[float], material: Material, length: int, draw: random.Random
) -> str:
    """Words in random order, as often as their weights, at least once, until `length` tokens are full."""
    sizes = [material.tokens(f" {word}") for word in words]
    scale = length / sum(size * weight for size, weight in zip(sizes, weights, strict=True))
    bag = [
        word for word, weight in zip(words, weights, strict=True) for _ in range(max(1, int(scale * weight)))
    ]
    draw.shuffle(bag)
    return " ".join(bag)
