"""Who a story can be about and who can help."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .words import words

HE = {"he": "he", "him": "him", "his": "his", "himself": "himself"}
SHE = {"he": "she", "him": "her", "his": "her", "himself": "herself"}

GIRLS = words(
    "Lily Mia Anna Emma Sara Rosa Nora Ella Zoe Lucy Amy Maya Ruby Clara Ivy Alice Eva Lena Nina "
    "Molly Sophie Daisy Hannah Grace Bella Tina Kate Olivia Wendy Jane Sue Mary"
)
BOYS = words(
    "Tom Ben Max Sam Leo Jack Tim Noah Finn Oscar Henry Jake Luke Adam Theo Peter Danny Will "
    "Charlie Hugo Felix Owen Billy Mark Oliver Eric Paul Toby Nick Joe Simon Ali"
)
ANIMAL_BOYS = words(
    "Rusty Pip Benny Bruno Rocky Bobo Milo Fuzzy Coco Teddy Barney Chip Dusty Hopper Biscuit "
    "Nibbles Patch Rolo Sparky Pepper Buddy Otto Gus Ziggy"
)
ANIMAL_GIRLS = words(
    "Poppy Hazel Penny Luna Honey Willow Dotty Pearl Clover Snowy Maisie Tilly Fern Goldie Bonnie "
    "Minnie Button Flora Millie Cherry Peaches Trixie Olive Juniper"
)

TRAITS = words(
    "brave kind curious clever shy cheerful gentle playful quiet friendly busy dreamy careful "
    "silly helpful stubborn lively thoughtful"
)

# What each kind of animal can do by itself; a hero never needs help with these.
ANIMALS: dict[str, frozenset[str]] = {
    kind: frozenset(skills.split())
    for kind, skills in {
        "fox": "sniff",
        "rabbit": "dig fast",
        "bear": "strong sniff",
        "mouse": "small gnaw",
        "hedgehog": "",
        "squirrel": "climb",
        "owl": "fly wise",
        "cat": "climb",
        "kitten": "",
        "puppy": "sniff",
        "dog": "sniff dig",
        "duck": "swim fly",
        "duckling": "swim",
        "frog": "swim",
        "pig": "",
        "lamb": "",
        "goat": "climb",
        "pony": "strong fast",
        "donkey": "strong",
        "cow": "strong",
        "deer": "fast",
        "hen": "",
        "chick": "",
        "turtle": "swim",
        "monkey": "climb",
        "elephant": "strong",
        "lion": "strong",
        "tiger": "strong climb",
        "panda": "climb",
        "penguin": "swim",
        "otter": "swim",
        "beaver": "swim gnaw",
        "badger": "dig",
        "mole": "dig",
        "bunny": "dig",
        "dragon": "fly strong warm light",
        "robot": "strong",
        "bee": "fly small",
        "raccoon": "climb",
    }.items()
}


@dataclass(frozen=True)
class Hero:
    kind: str
    name: str | None
    pronouns: dict[str, str]
    trait: str
    small: str
    skills: frozenset[str]

    @property
    def human(self) -> bool:
        return self.kind in ("girl", "boy", "prince", "princess")

    @property
    def ref(self) -> str:
        """How the story calls the hero after the first mention."""
        return self.name or f"the {self.small} {self.kind}".replace("  ", " ")

    @property
    def described(self) -> str:
        """The first mention, without the name: ``a brave little fox``."""
        return f"a {self.trait} {self.small} {self.kind}".replace("  ", " ")


def draw_hero(rng: random.Random) -> Hero:
    """A hero: a child, a royal child, or an animal, with or without a name."""
    girl = rng.random() < 0.5
    pronouns = SHE if girl else HE
    trait = rng.choice(TRAITS)
    if rng.random() < 0.42:
        kind = (
            ("girl" if girl else "boy") if rng.random() < 0.93 else "princess" if girl else "prince"
        )
        child = rng.choice(GIRLS if girl else BOYS)
        small = "little" if rng.random() < 0.5 else ""
        return Hero(kind, child, pronouns, trait, small, frozenset())
    kind = rng.choice(tuple(ANIMALS))
    if kind in ("hen", "cow") and not girl:
        pronouns, girl = SHE, True
    named = rng.choice(ANIMAL_GIRLS if girl else ANIMAL_BOYS)
    name = named if rng.random() < 0.65 else None
    small = rng.choice(("little", "little", "little", "young", "small"))
    return Hero(kind, name, pronouns, trait, small, ANIMALS[kind])


@dataclass(frozen=True)
class Helper:
    intro: str
    ref: str
    pronouns: dict[str, str]

    @property
    def family(self) -> bool:
        return "{his}" in self.intro


@dataclass(frozen=True)
class HelperKind:
    noun: str
    adjectives: str
    skills: frozenset[str]
    where: frozenset[str]
    sex: str = ""


def _kinds(table: str) -> tuple[HelperKind, ...]:
    rows = [[cell.strip() for cell in row.split(";")] for row in table.strip().splitlines()]
    return tuple(
        HelperKind(noun, looks, frozenset(skills.split()), frozenset(where.split()), sex)
        for noun, looks, skills, where, sex in rows
    )


# noun; looks; skills; where they live (empty: anywhere); sex where it is fixed
HELPERS = _kinds(
    """
owl; wise old|old|grey|friendly; fly wise; woods farm village snow;
robin; small|cheerful|red; fly; ;
crow; black|clever|old; fly; woods farm village city;
eagle; big|proud|great; fly; mountain snow sea;
seagull; white|noisy|friendly; fly; sea;
swan; white|graceful|kind; swim fly; river;
goose; big white|noisy|grey; swim fly; river farm;
duck; friendly|yellow|plump; swim; river farm;
otter; playful|quick|brown; swim; river sea;
frog; green|jolly|small; swim; river;
seal; shiny|grey|playful; swim; sea snow;
turtle; slow old|wise|green; swim wise; river sea;
dolphin; smiling|grey|playful; swim; sea;
mole; shy|little|soft black; dig; woods farm village;
badger; kind old|striped|sleepy; dig; woods farm mountain;
rabbit; quick|white|soft brown; dig; woods farm village mountain;
bear; big brown|sleepy|strong; strong; woods mountain snow river;
horse; tall brown|strong|gentle; strong tall; farm village;
ox; strong|slow|patient; strong; farm village;
donkey; grey|patient|kind; strong; farm village mountain sea;
elephant; big grey|gentle|strong; strong tall; wild;
giraffe; tall|very tall|gentle; tall; wild;
monkey; cheeky|quick|clever; climb; wild;
lion; big|golden|kind; strong; wild;
squirrel; red|quick|busy; climb; woods village city;
cat; grey|clever|striped; climb; village city farm sea;
goat; white|bold|old mountain; climb; mountain farm;
mouse; tiny|brave|grey; small gnaw; ;
ladybug; tiny|red|polite; small; woods farm village wild;
ant; tiny|busy|black; small; woods farm village wild mountain;
beaver; busy|brown|hard-working; gnaw swim build; river;
dog; shaggy|friendly|old; sniff dig; village city farm sea;
fox; red|clever|young; sniff; woods snow mountain;
firefly; bright|tiny|glowing; light; woods river farm wild;
spider; clever|quiet|long-legged; mend rope; woods farm village;
tailor; old|kind|busy; mend; village city;
shoemaker; old|kind|cheerful; mend; village city;
carpenter; strong|friendly|kind; mend build ladder; village city farm sea;
farmer; kind|friendly|tall; rope ladder strong; farm village;
gardener; kind|old|friendly; ladder dig; village city farm;
fisherman; old|kind|cheerful; boat rope; sea river; m
sailor; old|jolly|brave; boat rope; sea;
lighthouse keeper; old|kind|quiet; light key; sea;
miner; cheerful|strong|old; light dig rope; mountain;
shepherd; young|kind|old; light rope wise; mountain farm;
night watchman; old|kind|tall; light key; city village; m
caretaker; kind|old|busy; key ladder; city village;
blacksmith; strong|big|kind; key mend strong; village;
old woman; kind|cheerful|wise; light wise mend; village woods city snow; f
woodcutter; strong|kind|tall; strong ladder rope; woods snow mountain;
fairy; tiny|bright|kind; light fly; woods river;
wizard; old|forgetful|kind; light wise key; woods mountain village; m
giant; kind|gentle|shy; tall strong; mountain woods;
dragon; friendly|small green|red; warm light; mountain snow woods;
"""
)

FAMILY = (
    ("mother", "wise light mend key teach", "f"),
    ("father", "wise light strong ladder rope mend key", "m"),
    ("grandmother", "wise light mend", "f"),
    ("grandfather", "wise light mend build", "m"),
    ("big sister", "wise tall climb light", "f"),
    ("big brother", "wise tall climb strong", "m"),
    ("aunt", "wise mend key", "f"),
    ("uncle", "wise rope boat ladder", "m"),
)


def opposite(hero: Hero, rng: random.Random) -> dict[str, str]:
    """Mostly the other pronoun than the hero's, so that "he" and "she" stay clear."""
    other = SHE if hero.pronouns is HE else HE
    return other if rng.random() < 0.8 else hero.pronouns


def named_helper(noun: str, looks: str, hero: Hero, rng: random.Random, sex: str = "") -> Helper:
    """A helper met for the first time: ``a wise old owl``, later ``the owl``."""
    pronouns = {"m": HE, "f": SHE}.get(sex) or opposite(hero, rng)
    look = rng.choice(looks.split("|"))
    return Helper(f"a {look} {noun}", f"the {noun}", pronouns)


def draw_helper(
    skill: str, place_tags: frozenset[str], hero: Hero, rng: random.Random
) -> Helper | None:
    """Somebody with the skill who can be met in such a place, or None."""
    kinds = [
        kind
        for kind in HELPERS
        if skill in kind.skills
        and kind.noun != hero.kind
        and (not kind.where or kind.where & place_tags)
    ]
    family = [member for member in FAMILY if skill in member[1].split()] if hero.human else []
    if not kinds and not family:
        return None
    if family and (not kinds or rng.random() < 0.25):
        noun, _, sex = rng.choice(family)
        return Helper("{his} " + noun, "{his} " + noun, SHE if sex == "f" else HE)
    kind = rng.choice(kinds)
    return named_helper(kind.noun, kind.adjectives, hero, rng, kind.sex)
