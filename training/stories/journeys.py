"""Plots about going somewhere."""

from __future__ import annotations

import random

from .people import Hero, draw_helper
from .places import Place
from .plot import HELP_MORALS, Plot, meeting

# goal (after "to"); what is seen or done there
GOALS = (
    ("visit {his} grandmother", "{His} grandmother gave {him} a big hug and a piece of cake"),
    ("see the big waterfall", "The water fell like silver, and a rainbow stood above it"),
    ("see the old castle", "The castle had high towers and a golden gate"),
    ("go to the fair", "There were lights and music, and everything smelled of sugar"),
    ("go to the market", "There were apples, ribbons and bread, and everybody was laughing"),
    (
        "visit a friend on the other side of the valley",
        "{His} friend was waiting at the door with warm milk",
    ),
    (
        "see the sun rise from the top of the hill",
        "The sky turned pink and gold, and the whole land lay below",
    ),
    (
        "find the meadow with the blue flowers",
        "There were so many flowers that the ground looked like the sky",
    ),
    ("see the wishing stone", "{He} put a hand on the stone and made a wish"),
    ("hear the evening concert of the frogs", "The frogs sang until the moon was high"),
    (
        "pick the sweetest berries",
        "The berries were red and sweet, and {he} ate until {he} was full",
    ),
    ("watch the stars from the high rock", "There were more stars than {he} could count"),
    ("go to a birthday party", "There were games and songs and a cake with candles"),
    ("bring warm soup to a sick friend", "{His} friend ate the soup and felt better at once"),
    ("post a letter to {his} cousin", "The letter dropped into the box with a soft sound"),
    ("see the snow geese on the lake", "A hundred white geese landed on the water"),
    (
        "find the end of the rainbow",
        "At the end of the rainbow there was a field of golden flowers",
    ),
    ("ride the merry-go-round", "The wooden horses went round and round, and the music played"),
    ("visit the museum", "There were old coins, masks and a dinosaur with enormous bones"),
    ("go to the library", "There were thousands of books, and {he} could borrow three of them"),
    ("watch the parade", "Trumpets blew, drummers marched, and clowns threw candy"),
    ("taste the new ice cream", "It tasted of vanilla and cherries, and it melted on {his} tongue"),
    ("see the fireworks", "Red and green sparks burst over the roofs and fell like rain"),
    ("visit the hot springs", "Steam rose from the pools, and the water was as warm as a bath"),
    ("hear the old storyteller", "The storyteller told of pirates and treasures until midnight"),
    ("see the train arrive", "The engine puffed and whistled, and the passengers waved"),
    ("find the hidden treasure", "In a rusty chest there were glass beads and a gold coin"),
    ("see the dolphins jump", "Three dolphins leaped out of the foam, one after another"),
    ("look into the deepest well", "Far below, {his} own face looked back at {him} and smiled"),
    (
        "bring medicine to the old shepherd",
        "The shepherd drank the medicine and soon stopped coughing",
    ),
    ("see the old ship", "The ship was huge, and its sails were as white as clouds"),
)

_TIMES = {
    "see the sun rise from the top of the hill": "[Before dawn|Very early] one day",
    "watch the stars from the high rock": "One [clear |quiet |]evening",
    "hear the evening concert of the frogs": "One [warm |quiet |]evening",
    "see the fireworks": "One evening",
}

# key; tags; trouble clause; tries; skill -> solution
BARRIERS = (
    (
        "river",
        "",
        "there was a wide river in the way, and the bridge was gone",
        (
            "{He} put one foot into the water, but it was [too deep|cold and fast].",
            "{He} walked along the bank, but there was no other bridge.",
        ),
        {
            "boat": "{Helper} took {him} across the river in {hhis} boat.",
            "strong": "{Helper} pushed a fallen tree over the water, and {hero} walked across it like on a bridge.",
            "build": "{Helper} laid log beside log until there was a new bridge.",
        },
    ),
    (
        "fog",
        "",
        "a thick fog came up, and {he} could not see the path",
        (
            "{He} walked slowly with {his} arms stretched out, but {he} bumped into a tree.",
            "{He} called out, but nobody answered.",
        ),
        {
            "light": "{Helper} went ahead with a bright light, and {hero} followed it through the fog.",
            "sniff": "{Helper} could smell the path, and {hero} held on and followed {hhim} through the fog.",
        },
    ),
    (
        "dark",
        "",
        "it [got|grew] dark much too soon, and {he} could not see the way",
        (
            "{He} waited for the moon, but the clouds hid it.",
            "{He} took a few steps, but {he} tripped over a root.",
        ),
        {"light": "{Helper} lit up the path, and they walked on together, step by step."},
    ),
    (
        "lost",
        "",
        "{he} took a wrong turn and got lost",
        (
            "{He} went back, but every path looked the same.",
            "{He} tried the path on the left, but it ended in front of a bush.",
            "{He} looked for the sun, but it was behind the clouds.",
        ),
        {
            "fly": "{Helper} flew up high, saw the right path from above and showed {him} the way.",
            "wise": "{Helper} knew every path, and {hhe} drew a map in the [sand|dust] for {him}.",
            "sniff": "{Helper} found the right path with {hhis} nose, and {hero} followed {hhim}.",
        },
    ),
    (
        "log",
        "woods river mountain farm village",
        "a [big|huge] tree had fallen across the path",
        (
            "{He} tried to climb over it, but it was too high and slippery.",
            "{He} pushed with all {his} might, but the tree did not move.",
        ),
        {
            "strong": "{Helper} put {hhis} shoulder against the tree and rolled it out of the way.",
            "gnaw": "{Helper} bit through the wood until there was a gap, and {hero} could walk through it.",
        },
    ),
    (
        "gate",
        "village city farm",
        "the gate on the path was locked",
        ("{He} rattled the gate, but it stayed shut.", "{He} knocked, but nobody came."),
        {
            "key": "{Helper} had the key in {hhis} pocket and opened the gate.",
            "small": "{Helper} slipped through the keyhole and opened the gate from the other side.",
        },
    ),
    (
        "cliff",
        "mountain sea",
        "the path ended at a steep cliff",
        (
            "{He} tried to climb, but the stones were loose.",
            "{He} looked for steps, but there were none.",
        ),
        {
            "climb": "{Helper} knew the cliff well and showed {him} where to put each foot, and so they climbed up together.",
            "rope": "{Helper} tied a rope to a rock at the top and helped {him} up.",
        },
    ),
    (
        "snow",
        "snow mountain",
        "deep snow covered the whole path",
        (
            "{He} took three steps and sank in up to {his} belly.",
            "{He} tried to jump over it, but {he} landed in the snow.",
        ),
        {
            "dig": "{Helper} dug a tunnel through the snow, and {hero} walked through it.",
            "strong": "{Helper} walked ahead and pressed down the snow, and {hero} followed in {hhis} tracks.",
        },
    ),
    (
        "tired",
        "",
        "the way was long, and soon {his} legs were too tired to walk",
        (
            "{He} sat down on a stone to rest, but {his} legs still hurt.",
            "{He} counted {his} steps to keep going, but at a hundred {he} had to stop.",
        ),
        {"strong": "{Helper} let {him} ride on {hhis} back, and together they went on."},
    ),
    (
        "swamp",
        "river wild woods",
        "the path went straight into a [deep|muddy] swamp",
        (
            "{He} stepped on a clump of grass, but it sank.",
            "{He} threw a stick to test the ground, and the stick disappeared.",
        ),
        {
            "wise": "{Helper} knew which stones were safe, and {hero} stepped from stone to stone behind {hhim}.",
            "tall": "{Helper} had long legs, so {hhe} carried {him} across the swamp.",
            "fly": "{Helper} flew ahead from one dry spot to the next, and {hero} jumped after {hhim}.",
        },
    ),
)


def journey_plot(hero: Hero, place: Place, rng: random.Random) -> Plot | None:
    """The hero wants to reach some place; something is in the way."""
    number, (goal, view) = rng.choice(tuple(enumerate(GOALS)))
    key, tags, trouble, tries, solutions = rng.choice(BARRIERS)
    if (tags and not set(tags.split()) & place.tags) or hero.skills & {"fly", *solutions}:
        return None
    if "snow" in place.tags and any(word in goal for word in ("flowers", "frogs", "berries")):
        return None
    if key == "river" and "swim" in hero.skills:
        return None
    skill, solve = rng.choice(tuple(solutions.items()))
    helper = draw_helper(skill, place.tags, hero, rng)
    if helper is None:
        return None
    return Plot(
        key=f"go{number}-{key}",
        about="a journey",
        want=f"to {goal}",
        setup=f"{{Day}}, {{hero}} [wanted|decided] to {goal}. {{He}} [packed some bread and set out|set out early|put an apple in {{his}} bag and left|said goodbye and started to walk].",
        trouble=trouble,
        tries=tries,
        helper=helper,
        meet=meeting(helper),
        solve=solve,
        result=f"At last, they were there. {view}.",
        morals=(*HELP_MORALS, "On the way home, {hero} sang a [little|happy] song"),
        sad="[sad|worried|a little afraid]",
        day=_TIMES.get(goal)
        or ("One [winter|cold|snowy] [day|morning]" if key == "snow" else None),
    )
