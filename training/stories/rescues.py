"""Plots about saving somebody small who is in trouble."""

from __future__ import annotations

import random

from .people import Hero, draw_helper
from .places import Place
from .plot import HELP_MORALS, Plot, meeting

# who is in trouble; trouble clause; tries; skill -> solution; needs one of these place tags
_RESCUES = (
    (
        "baby bird",
        "a baby bird had fallen out of its nest",
        (
            "{He} tried to lift the bird up, but the nest was too high.",
            "{He} called for the bird's mother, but she was far away.",
        ),
        {
            "climb": "{Helper} took the baby bird gently, climbed up the tree and set it back in the nest.",
            "tall": "{Helper} lifted the baby bird up to the branch and set it back in the nest.",
            "ladder": "{Helper} brought a ladder, and soon the baby bird sat in the nest again.",
        },
        "woods farm village city",
    ),
    (
        "kitten",
        "a kitten was sitting high up in a tree and could not get down",
        (
            "{He} called the kitten, but it was too scared to move.",
            "{He} held out a bowl of milk, but the kitten only cried.",
        ),
        {
            "ladder": "{Helper} put a ladder against the tree and carried the kitten down.",
            "tall": "{Helper} reached up and let the kitten step onto {hhis} back.",
            "climb": "{Helper} climbed up and showed the kitten how to come down, paw after paw.",
        },
        "woods farm village city",
    ),
    (
        "lamb",
        "a lamb was caught in a fence",
        (
            "{He} pulled at the wire, but it was too tight.",
            "{He} pushed the lamb from behind, but it only cried louder.",
        ),
        {
            "strong": "{Helper} bent the fence apart, and the lamb was free.",
            "gnaw": "{Helper} bit through the post, the fence fell over, and the lamb was free.",
        },
        "farm mountain",
    ),
    (
        "hedgehog",
        "a hedgehog was caught in an old net",
        (
            "{He} pulled at the net, but the spines pricked {him}.",
            "{He} tried to tear the net, but it was too strong.",
        ),
        {
            "gnaw": "{Helper} bit through the strings one by one, and the hedgehog was free.",
            "mend": "{Helper} opened the knots one by one, and the hedgehog was free.",
        },
        "woods farm village",
    ),
    (
        "duckling",
        "a duckling had lost its mother",
        (
            "{He} looked behind the reeds, but there was no mother duck.",
            "{He} called as loud as {he} could, but nobody answered.",
        ),
        {
            "fly": "{Helper} flew over the water, found the mother duck and led her to her little one.",
            "sniff": "{Helper} sniffed the ground and followed the trail until they found the mother duck.",
            "swim": "{Helper} swam along the shore until {hhe} found the mother duck and brought her back.",
        },
        "river",
    ),
    (
        "young whale",
        "a young whale was lying on the sand and could not get back into the water",
        (
            "{He} pushed the whale, but it was far too heavy.",
            "{He} carried water in a bucket, but it was not enough.",
        ),
        {
            "strong": "{Helper} pushed with all {hhis} strength, and the whale slid back into the sea.",
            "boat": "{Helper} tied a rope to {hhis} boat and pulled the whale back into the sea.",
        },
        "sea",
    ),
    (
        "beetle",
        "a beetle was lying on its back at the bottom of a crack",
        (
            "{He} reached into the crack, but it was too narrow.",
            "{He} held a blade of grass down, but the beetle could not catch it.",
        ),
        {"small": "{Helper} went down into the crack, turned the beetle over and led it up again."},
        "",
    ),
    (
        "fawn",
        "a fawn had fallen into a deep pit",
        (
            "{He} reached down, but the pit was too deep.",
            "{He} threw some hay into the pit, but it was not enough to climb on.",
        ),
        {
            "dig": "{Helper} dug a slope into the side of the pit, and the fawn walked out.",
            "rope": "{Helper} let down a rope and pulled the fawn up carefully.",
            "strong": "{Helper} pushed a log into the pit, and the fawn climbed up on it.",
        },
        "woods farm mountain",
    ),
    (
        "butterfly",
        "a butterfly was stuck in a jar with a tight lid",
        (
            "{He} turned the lid, but it did not move.",
            "{He} knocked on the jar, but that only scared the butterfly.",
        ),
        {
            "strong": "{Helper} turned the lid with one strong twist, and the butterfly was free.",
            "gnaw": "{Helper} bit through the lid, and the butterfly was free.",
        },
        "village farm city woods",
    ),
    (
        "puppy",
        "a puppy was drifting down the river on a board",
        (
            "{He} ran along the bank, but the water was faster.",
            "{He} held out a branch, but it was too short.",
        ),
        {
            "swim": "{Helper} jumped into the water, swam to the board and pushed it to the bank.",
            "boat": "{Helper} rowed out in {hhis} boat and lifted the puppy in.",
            "rope": "{Helper} threw a rope around the board and pulled it to the bank.",
        },
        "river",
    ),
    (
        "snail",
        "a snail could not get across the hot road",
        (
            "{He} tried to carry the snail, but it was too shy and held on to the ground.",
            "{He} fanned the road with a leaf, but it stayed hot.",
        ),
        {
            "wise": "{Helper} knew what to do, and they laid a path of cool, wet leaves across the road.",
            "swim": "{Helper} splashed water on the road until it was cool, and the snail crept across.",
        },
        "village farm river",
    ),
    (
        "old star",
        "a little star had fallen from the sky and could not get home",
        (
            "{He} threw the star up as high as {he} could, but it fell down again.",
            "{He} climbed a hill with the star, but the sky was still too far away.",
        ),
        {
            "fly": "{Helper} took the star on {hhis} back and flew up, higher and higher, until the star was home."
        },
        "",
    ),
)


def rescue_plot(hero: Hero, place: Place, rng: random.Random) -> Plot | None:
    """Somebody small is in trouble; the hero finds somebody who can save it."""
    who, trouble, tries, solutions, tags = rng.choice(_RESCUES)
    if who == hero.kind or (tags and not set(tags.split()) & place.tags):
        return None
    if hero.skills & set(solutions):
        return None
    skill, solve = rng.choice(tuple(solutions.items()))
    helper = draw_helper(skill, place.tags, hero, rng)
    if helper is None:
        return None
    who = who.replace("old star", "star")
    return Plot(
        key=f"rescue-{who}",
        about=f"a {who}",
        want=f"to help a {who}",
        setup="{Day}, {hero} [was out for a walk|was playing outside|was on the way home] when {he} heard a [small|sad|quiet|strange] [voice|sound]. {He} [went to look|ran to see what it was|looked around].",
        trouble=trouble,
        tries=tries,
        helper=helper,
        meet=meeting(helper),
        solve=solve,
        result=f'The {who} was safe. [It thanked them again and again|"Thank you, thank you," it said|It looked at {{hero}} with shining eyes].',
        morals=(
            "{Hero} learned that even small friends can do big things",
            "{Hero} learned that kindness makes the heart warm",
            f"Every time the {who} saw {{hero}} after that, it said hello",
            "That night, {hero} fell asleep with a smile",
            *HELP_MORALS[:2],
        ),
        sad=f"[sorry for the {who}|worried]",
    )
