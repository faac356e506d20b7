"""Plots about making something."""

from __future__ import annotations

import random

from .people import Hero, named_helper
from .places import Place
from .plot import HELP_MORALS, Plot, meeting

# what is made; what is missing; (helper noun, look, sex); how the helper gets it; the end
MAKES = (
    (
        "bake a cake",
        "cake",
        "there was not one egg in the house",
        "egg",
        ("hen", "friendly|plump|brown", "f"),
        "{Helper} went to {hhis} nest and gave {him} three fresh eggs.",
        "{Hero} mixed everything in a big bowl and put the cake into the oven. Soon it smelled wonderful, and everybody got a piece.",
    ),
    (
        "make a pot of soup",
        "soup",
        "there was nothing to put into the pot",
        "carrot",
        ("rabbit", "kind|busy|white", ""),
        "{Helper} brought carrots and peas from {hhis} garden.",
        "{Hero} cooked the soup over the fire. It was hot and good, and they ate it together.",
    ),
    (
        "make pancakes",
        "pancakes",
        "there was no milk left",
        "milk",
        ("cow", "gentle|big brown|friendly", "f"),
        "{Helper} gave {him} a full jug of warm milk.",
        "{Hero} made a tall pile of pancakes. They were golden and sweet.",
    ),
    (
        "bake bread",
        "bread",
        "the flour sack was empty",
        "flour",
        ("miller", "kind|old|cheerful", ""),
        "{Helper} filled the sack with fresh white flour.",
        "{Hero} baked a round loaf. It was warm and soft, and {he} gave the first piece to {helper}.",
    ),
    (
        "make honey cookies",
        "cookies",
        "the honey jar was empty",
        "honey",
        ("bee", "busy|tiny|golden", "f"),
        "{Helper} called {hhis} sisters, and they filled the jar with golden honey.",
        "{Hero} baked a tray of cookies. They were so good that not a crumb was left.",
    ),
    (
        "bake an apple pie",
        "pie",
        "all the apples hung too high in the tree",
        "apple",
        ("horse", "tall|gentle|brown", ""),
        "{Helper} stretched {hhis} long neck and shook the branch until the apples rained down.",
        "{Hero} filled the pie with apples and baked it. It was sweet and hot.",
    ),
    (
        "build a tree house",
        "tree house",
        "{he} had no boards",
        "board",
        ("carpenter", "strong|kind|friendly", ""),
        "{Helper} brought strong boards, a hammer and a box of nails.",
        "They worked all day. In the evening, {hero} sat high up in {his} own tree house and looked at the stars.",
    ),
    (
        "build a raft",
        "raft",
        "{he} could not cut any logs",
        "log",
        ("beaver", "busy|brown|hard-working", ""),
        "{Helper} cut six straight logs with {hhis} sharp teeth.",
        "They tied the logs together, and {hero} sailed {his} raft until the sun went down.",
    ),
    (
        "build a snowman",
        "snowman",
        "the snowman's head was too heavy to lift",
        "head",
        ("bear", "big white|strong|friendly", ""),
        "{Helper} picked up the big ball of snow and put it on top.",
        "{Hero} gave the snowman a carrot nose and a warm hat. It was the best snowman of all.",
    ),
    (
        "make a swing",
        "swing",
        "the only rope was far too short",
        "rope",
        ("sailor", "jolly|old|kind", ""),
        "{Helper} brought a long, strong rope and tied it with a sailor's knot.",
        "{Hero} sat on the swing and flew up high, almost to the sky.",
    ),
    (
        "grow a sunflower",
        "sunflower",
        "it did not rain, and the ground was as dry as dust",
        "water",
        ("elephant", "gentle|big grey|kind", ""),
        "{Helper} filled {hhis} trunk with water and made it rain over the little plant.",
        "Day after day the sunflower grew, until it was taller than {hero}.",
    ),
    (
        "plant a garden",
        "garden",
        "{he} had no seeds",
        "seed",
        ("sparrow", "little|brown|cheerful", ""),
        "{Helper} knew where the best seeds lay and brought one after the other.",
        "{Hero} put the seeds into the ground. In summer the garden was full of flowers.",
    ),
    (
        "knit a warm scarf",
        "scarf",
        "{he} had no wool",
        "wool",
        ("sheep", "woolly|kind|white", "f"),
        "{Helper} gave {him} a basket of {hhis} softest wool.",
        "{Hero} knitted every evening. When winter came, {his} neck was warm.",
    ),
    (
        "paint a picture",
        "picture",
        "the paint box was empty",
        "paint",
        ("painter", "cheerful|old|kind", ""),
        "{Helper} gave {him} a pot of red, a pot of blue and a pot of yellow.",
        "{Hero} painted the sun, the sea and a little house. The picture hung on the wall for all to see.",
    ),
    (
        "make a kite",
        "kite",
        "{he} had no string",
        "string",
        ("spider", "clever|quiet|long-legged", ""),
        "{Helper} spun a thread as long as a street and as strong as a rope.",
        "{Hero} tied the thread to the kite, and it rose up, higher and higher.",
    ),
    (
        "make a soft pillow",
        "pillow",
        "{he} had no feathers",
        "feather",
        ("goose", "white|friendly|big", "f"),
        "{Helper} shook {hhis} wings, and soft white feathers fell down like snow.",
        "{Hero} filled the pillow with feathers. That night {he} slept better than ever before.",
    ),
    (
        "make a flower crown",
        "flower crown",
        "{he} could not find a single flower",
        "flower",
        ("butterfly", "blue|pretty|yellow", "f"),
        "{Helper} led {him} to a hidden place where a hundred flowers bloomed.",
        "{Hero} made a crown of daisies and wore it all day like a king's crown.",
    ),
    (
        "make a lantern",
        "lantern",
        "there was no candle to put in it",
        "candle",
        ("candle maker", "old|kind|friendly", ""),
        "{Helper} took a little candle from {hhis} shelf and gave it to {him}.",
        "When night came, the lantern glowed like a small moon, and {hero} carried it through the dark.",
    ),
    (
        "build a sand castle",
        "sand castle",
        "the waves washed it away again and again",
        "wall",
        ("crab", "red|busy|clever", ""),
        "{Helper} dug a deep ditch around the castle, so the waves could not reach it.",
        "The sand castle stood until evening, with shells on its walls and a flag on top.",
    ),
    (
        "build a birdhouse",
        "birdhouse",
        "{he} could not make a round hole for the door",
        "hole",
        ("woodpecker", "red|busy|clever", ""),
        "{Helper} tapped and tapped with {hhis} beak until there was a round little door.",
        "{Hero} hung the birdhouse in a tree, and the next day two birds moved in.",
    ),
)
MAKE_TRIES = (
    "{He} looked in every cupboard and under the bed, but {he} found nothing that would help.",
    "{He} tried to do it without, but it did not work at all.",
    "{He} asked at the house next door, but nobody was home.",
    "{He} thought about it for a long time, but {he} had no idea what to do.",
)
BIG_TRIES = (
    "{He} tried with all {his} might, but it was no use.",
    "{He} tried it once, twice, three times, but it did not work.",
    "{He} thought about it for a long time, but {he} had no idea what to do.",
)
_OUTDOOR_TROUBLE = {
    "snowman",
    "sand castle",
    "pie",
    "birdhouse",
    "sunflower",
    "raft",
    "flower crown",
}
_SUMMER = {"sunflower", "garden", "flower crown", "pie", "sand castle", "raft"}
_MAKE_PLACES = {"snowman": "snow mountain", "sand castle": "sea", "raft": "river"}


def making_plot(hero: Hero, place: Place, rng: random.Random) -> Plot | None:
    """The hero wants to make something, and one thing is missing."""
    goal, item, trouble, _, (noun, looks, sex), solve, result = rng.choice(MAKES)
    where = _MAKE_PLACES.get(item)
    if noun == hero.kind or (where and not set(where.split()) & place.tags):
        return None
    if (item, bool(hero.skills & {"strong", "gnaw", "fly", "climb"})) in (
        ("snowman", True),
        ("raft", True),
        ("pie", True),
    ):
        return None
    if "snow" in place.tags and item in _SUMMER:
        return None
    helper = named_helper(noun, looks, hero, rng, sex)
    reason = rng.choice(
        (
            "",
            " for {his} [mother|father|grandmother|best friend]",
            " as a surprise for {his} [mother|sister|brother|best friend]",
            " for the first time",
        )
    )
    return Plot(
        key=f"make-{item}",
        about=f"a {item}" if item not in ("soup", "bread", "pancakes", "cookies") else item,
        want=f"to {goal}",
        setup=f"{{Day}}, {{hero}} [wanted|decided] to {goal}{reason}."
        " [{He} got everything ready.|{He} had thought about it all night.|{He} was very excited.|{He} rolled up {his} sleeves and began.]",
        trouble=trouble,
        tries=BIG_TRIES if item in _OUTDOOR_TROUBLE else MAKE_TRIES,
        helper=helper,
        meet=meeting(helper),
        solve=solve,
        result=result,
        morals=HELP_MORALS,
        day="One [winter|cold|snowy] [day|morning]" if item == "snowman" else None,
    )
