"""Plots about finding a friend and about telling the truth."""

from __future__ import annotations

import random

from .people import FAMILY, HE, SHE, Helper, Hero, named_helper
from .places import Place
from .plot import Plot

# what the two like; the gift of the first moment
_GAMES = (
    "play hide-and-seek",
    "build towers",
    "roll down the hill",
    "look for shells",
    "tell jokes",
    "jump in puddles",
    "collect leaves",
    "sing silly songs",
    "play catch",
    "fly kites",
    "draw pictures in the sand",
    "watch the clouds",
    "pick berries",
    "count the ducks",
    "make mud cakes",
    "have a picnic",
    "play pirates",
    "climb rocks",
)
_FRIENDS = (
    ("hedgehog", "shy|small"),
    ("mouse", "tiny|quiet"),
    ("lamb", "white|gentle"),
    ("fox", "red|lonely"),
    ("frog", "green|funny"),
    ("snail", "slow|quiet"),
    ("rabbit", "white|shy"),
    ("squirrel", "quick|red"),
    ("turtle", "slow|kind"),
    ("duckling", "yellow|lonely"),
    ("puppy", "brown|happy"),
    ("kitten", "grey|shy"),
    ("piglet", "pink|cheerful"),
    ("deer", "young|shy"),
    ("mole", "shy|soft"),
    ("beetle", "green|polite"),
    ("goat", "young|funny"),
    ("raccoon", "young|curious"),
    ("sparrow", "small|brown"),
    ("lizard", "green|quiet"),
)
_NO_FRIEND = (
    (
        "everybody was too busy to play",
        (
            '{He} asked the big ones, but they said, "You are too small."',
            "{He} asked the birds, but they flew away.",
        ),
    ),
    (
        "{he} was new there and did not know anybody",
        (
            "{He} smiled at the others, but they did not see {him}.",
            "{He} stood near a game, but {he} was too shy to say a word.",
        ),
    ),
    (
        "{he} was so shy that no word came out of {his} mouth",
        (
            "{He} practiced saying hello to a tree, but trees do not answer.",
            "{He} waved from behind a bush, but nobody saw it.",
        ),
    ),
    (
        "all {his} friends had moved away",
        (
            "{He} played ball against a wall, but it was no fun alone.",
            "{He} wrote a letter, but no answer came.",
        ),
    ),
)
_FIRST_STEP = (
    '{Helper} was alone too. {Hhe} shared {hhis} [apple|bread|berries|cookie] with {him} and asked, "Do you want to {game} with me?"',
    '{Helper} sat down next to {him}, smiled and said, "I have no one to play with. Shall we {game}?"',
    '{Helper} dropped {hhis} bag, and {hero} helped {hhim} pick everything up. "You are kind," said {helper}. "Let us {game}!"',
    '{Helper} said, "I like your smile. Will you {game} with me?"',
)


def friend_plot(hero: Hero, place: Place, rng: random.Random) -> Plot | None:
    """The hero is lonely and finds a friend who was lonely too."""
    game = rng.choice(_GAMES)
    trouble, tries = rng.choice(_NO_FRIEND)
    if hero.human and rng.random() < 0.6:
        girl = rng.random() < 0.5
        noun, looks, sex = (
            ("girl", "quiet|smiling|red-haired", "f")
            if girl
            else ("boy", "quiet|smiling|freckled", "m")
        )
        if noun == hero.kind:
            noun, sex = ("boy", "m") if girl else ("girl", "f")
        helper = named_helper(noun, looks, hero, rng, sex)
    else:
        noun, looks = rng.choice(_FRIENDS)
        if noun == hero.kind:
            return None
        helper = named_helper(noun, looks, hero, rng)
    return Plot(
        key=f"friend-{noun}",
        about="friendship",
        want="to find a friend",
        setup="{Hero} [wanted to find a friend|wished for a friend|wanted to find somebody to play with].",
        trouble=trouble,
        tries=tries,
        helper=helper,
        meet="[{Day}, {hero} met {helper_intro}.|{Day}, {helper_intro} came along.|{Day}, {helper_intro} sat under a tree nearby.]",
        solve=rng.choice(_FIRST_STEP),
        result=f"They went to {game}, and they laughed until [the sun went down|it was time to go home|their bellies hurt].",
        morals=(
            "From that day on, {hero} and {helper} were best friends",
            "{Hero} learned that a friend may be waiting just around the corner",
            "{Hero} was never lonely again",
            "{Hero} learned that nobody is too small or too different to be a good friend",
            "Since then, they have met every day",
        ),
        sad="[lonely|sad and lonely|very lonely]",
        extra={"game": game},
    )


# what was done; what broke; how it is made good
_MISHAPS = (
    (
        "play ball inside",
        "the ball hit the blue vase, and it broke",
        "vase",
        "{Helper} brought some glue, and together they put the vase back together, piece by piece",
    ),
    (
        "taste the birthday cake",
        "{he} ate one bite too many, and half of the cake was gone",
        "cake",
        "{Helper} said that they could bake a new cake, and {hero} stirred the bowl",
    ),
    (
        "try the new paints",
        "the red paint spilled all over the white rug",
        "rug",
        "{Helper} brought soap and water, and together they scrubbed the rug until it was clean",
    ),
    (
        "look at the old clock",
        "the clock fell down and stopped",
        "clock",
        "{Helper} opened the clock, and {hero} held the light while {hhe} put the little wheels back",
    ),
    (
        "pick a flower",
        "{he} stepped on the tulips, and they all lay flat",
        "tulips",
        "{Helper} fetched some sticks, and together they tied up the flowers one by one",
    ),
    (
        "swing on the gate",
        "the gate came off and fell into the mud",
        "gate",
        "{Helper} brought a hammer, and {hero} held the nails while {hhe} fixed the gate",
    ),
    (
        "try on the big hat",
        "the hat tore in the middle",
        "hat",
        "{Helper} took a needle and showed {him} how to sew the hat with small stitches",
    ),
    (
        "reach the cookie jar",
        "the jar fell down and broke",
        "jar",
        "{Helper} swept up the pieces, and then they painted a new jar together",
    ),
    (
        "play with the lantern",
        "the glass of the lantern cracked",
        "lantern",
        "{Helper} put in new glass, and {hero} polished it until it shone",
    ),
    (
        "pour the milk alone",
        "the milk ran all over the table and the book on it",
        "book",
        "{Helper} hung the wet pages in the sun, and together they put the book back in order",
    ),
)


def honesty_plot(hero: Hero, place: Place, rng: random.Random) -> Plot | None:
    """The hero breaks something, hides it, tells the truth, and it is put right."""
    wish, trouble, item, fix = rng.choice(_MISHAPS)
    noun, _, sex = rng.choice(FAMILY)
    helper = Helper("{his} " + noun, "{his} " + noun, SHE if sex == "f" else HE)
    return Plot(
        key=f"truth-{item}",
        about="telling the truth",
        want=f"to {wish}",
        setup=f"{{Day}}, {{hero}} wanted to {wish}. {{His}} {noun} had said no, but {{hero}} did it anyway.",
        trouble=trouble,
        tries=(
            "{He} tried to hide it, but {his} heart beat fast and {he} felt worse and worse.",
            "{He} tried to play and forget it, but {he} could think of nothing else.",
            "{He} thought of blaming the wind, but that did not feel right.",
        ),
        helper=helper,
        meet='[At last|After a while|In the evening], {he} went to {helper} and told the truth. "It was me. I am sorry," said {hero}.',
        solve=f'"Thank you for telling me," said {{helper}}. {fix}.',
        result="[In the end, everything was good again.|{Helper} hugged {him}, and everything was good again.|After that, {his} heart felt light again.]",
        morals=(
            "{Hero} learned that it is best to tell the truth",
            "{Hero} learned that everyone makes mistakes and that the truth makes the heart light",
            "From then on, {hero} always told the truth",
        ),
        sad="[sorry|afraid|ashamed]",
        glad="[happy|glad|relieved]",
        extra={"kind": "truth"},
    )
