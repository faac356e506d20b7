"""Plots about learning something."""

from __future__ import annotations

import random

from .people import Hero, named_helper
from .places import Place
from .plot import Plot, meeting

# skill; helper; trouble; tries; lesson; result
LESSONS = (
    (
        "swim",
        ("frog", "green|jolly|old", ""),
        "{he} was afraid of the deep water",
        "swim",
        (
            "{He} put one toe into the water and ran back.",
            "{He} splashed with {his} legs, but {he} sank like a stone.",
        ),
        "{Helper} told {him} to lie on {his} back and breathe slowly, and then to kick with both legs.",
        "{Hero} kicked and kicked, and suddenly {he} was swimming.",
    ),
    (
        "whistle",
        ("blackbird", "cheerful|clever|young", ""),
        "only air came out of {his} mouth",
        "",
        (
            "{He} blew until {his} cheeks were red, but there was no sound.",
            "{He} practiced in front of the mirror, but it did not help.",
        ),
        "{Helper} showed {him} how to make a small, round mouth and blow very softly.",
        "First there was a tiny sound, and then {hero} whistled a whole song.",
    ),
    (
        "skate",
        ("penguin", "funny|kind|little", ""),
        "the ice was so slippery that {he} fell down again and again",
        "",
        (
            "{He} took one step and fell on {his} bottom.",
            "{He} held on to a branch, but the branch broke.",
        ),
        "{Helper} showed {him} how to bend {his} knees and push to the side, first left, then right.",
        "Left, right, left, right, and {hero} was gliding over the ice like a bird.",
    ),
    (
        "dance",
        ("crane", "graceful|tall|kind", ""),
        "{his} feet always got mixed up",
        "",
        (
            "{He} turned around once and fell over.",
            "{He} counted the steps, but {he} forgot them again.",
        ),
        "{Helper} told {him} to close {his} eyes, listen to the music and move only when the drum went boom.",
        "Boom, step, boom, step, and soon {hero} was dancing, and everybody clapped.",
    ),
    (
        "sing",
        ("nightingale", "small|brown|gentle", ""),
        "{his} voice was too quiet to hear",
        "",
        (
            "{He} opened {his} mouth, but only a squeak came out.",
            "{He} tried to sing louder, but {he} began to cough.",
        ),
        "{Helper} told {him} to stand up straight, breathe in deeply and think of something beautiful.",
        "{Hero} sang, and {his} voice was so clear that even the wind grew still.",
    ),
    (
        "read",
        ("owl", "wise old|grey|kind", "wise"),
        "the letters danced before {his} eyes",
        "wise",
        (
            "{He} looked at the page for an hour, but {he} did not understand one word.",
            "{He} made up a story from the pictures, but it was not the same.",
        ),
        "{Helper} taught {him} one letter each day and let {him} draw it in the sand.",
        "After some weeks, {hero} read {his} first story aloud, from the first word to the last.",
    ),
    (
        "ride a bicycle",
        ("neighbor", "kind|friendly|patient", ""),
        "{he} fell off every time",
        "",
        (
            "{He} sat on the seat and tipped over at once.",
            "{He} rode for one second and landed in a bush.",
        ),
        "{Helper} held the seat, ran beside {him} and told {him} to look far ahead, not down.",
        "When {hero} looked back, nobody was holding the seat. {He} was riding all alone!",
    ),
    (
        "count to one hundred",
        ("ladybug", "clever|red|polite", ""),
        "{he} always got mixed up after twenty",
        "",
        (
            "{He} counted pebbles, but {he} lost count.",
            "{He} counted clouds, but they floated away.",
        ),
        "{Helper} showed {him} how to make little piles of ten and then count the piles.",
        "Ten piles of ten, and {hero} had counted to one hundred without a mistake.",
    ),
    (
        "jump over the stream",
        ("hare", "quick|young|friendly", "fast swim fly"),
        "{he} was afraid to fall in",
        "fast swim fly strong",
        (
            "{He} ran to the stream, but {he} stopped at the edge.",
            "{He} jumped, but {he} landed in the water with a splash.",
        ),
        "{Helper} drew two lines on the dry ground and let {him} jump over them until the jump was long enough.",
        "Then {hero} ran, jumped and landed on the other side with dry feet.",
    ),
    (
        "play the drum",
        ("woodpecker", "red|busy|clever", ""),
        "the drum only made a terrible noise",
        "",
        (
            "{He} hit the drum as hard as {he} could, and everybody covered their ears.",
            "{He} hit it softly, but then nobody could hear it.",
        ),
        "{Helper} taught {him} a slow beat first, tap, tap, boom, and then a fast one.",
        "Tap, tap, boom! Soon all the neighbors came to march to {hero}'s music.",
    ),
    (
        "paint",
        ("painter", "cheerful|old|kind", ""),
        "all the colors ran together and turned brown",
        "",
        (
            "{He} used more paint, but it only got worse.",
            "{He} started again, but again everything turned brown.",
        ),
        "{Helper} showed {him} how to wash the brush and let each color dry before the next.",
        "{Hero} painted a rainbow with seven bright colors, and not one of them was brown.",
    ),
    (
        "climb the old tree",
        ("squirrel", "quick|red|kind", ""),
        "{he} got dizzy when {he} looked down",
        "climb fly",
        (
            "{He} got up to the first branch and slid down again.",
            "{He} hugged the trunk, but {his} legs were shaking.",
        ),
        "{Helper} told {him} to look only at the next branch and never down.",
        "Branch by branch {hero} went up, and at the top {he} could see the whole world.",
    ),
    (
        "juggle",
        ("clown", "funny|old|friendly", ""),
        "the balls fell on {his} head",
        "",
        (
            "{He} threw three balls up, and all three fell down.",
            "{He} tried with two apples, but they rolled away.",
        ),
        "{Helper} told {him} to start with one ball, then two, and to watch only the highest one.",
        "At the end of the week, {hero} juggled three balls, and all the children cheered.",
    ),
    (
        "tie {his} shoes",
        ("spider", "clever|quiet|patient", ""),
        "the laces always came undone",
        "",
        (
            "{He} made a big knot, but it fell apart.",
            "{He} wound the laces around {his} foot, but {he} tripped over them.",
        ),
        "{Helper} showed {him} how to make two loops like rabbit ears and pull one through the other.",
        "{Hero} pulled the loops tight, and {his} shoes stayed tied all day long.",
    ),
    (
        "cook",
        ("cook", "round|jolly|famous", ""),
        "everything {he} cooked was burnt",
        "",
        (
            "{He} stirred faster, but the soup was still black.",
            "{He} added salt, but then it was burnt and salty.",
        ),
        "{Helper} told {him} to use a small flame, to stir slowly and to taste before serving.",
        "That evening {hero} served a golden omelet, and everybody asked for more.",
    ),
    (
        "write {his} name",
        ("teacher", "kind|gentle|patient", ""),
        "the letters came out crooked",
        "",
        ("{He} pressed so hard that the pencil broke.", "{He} wrote it backward by mistake."),
        "{Helper} drew light dots on the paper and let {him} join them slowly.",
        "Letter by letter, {hero} wrote {his} name, and it looked splendid.",
    ),
    (
        "do a handstand",
        ("acrobat", "nimble|cheerful|young", ""),
        "{he} tipped over each time",
        "",
        (
            "{He} kicked up and rolled into the grass.",
            "{He} leaned against a wall, but {his} arms wobbled.",
        ),
        "{Helper} told {him} to spread {his} fingers, look at one spot and tighten {his} belly.",
        "{Hero} stood on {his} hands and saw the whole world upside down.",
    ),
    (
        "play the violin",
        ("cricket", "small|elegant|musical", ""),
        "the violin only squeaked",
        "",
        (
            "{He} pulled the bow faster, but the squeak got louder.",
            "{He} tried another string, but it sounded like a sick goose.",
        ),
        "{Helper} taught {him} to hold the bow loosely and play one long, slow note.",
        "Note by note, a soft melody filled the air, and {hero} played it to the end.",
    ),
    (
        "be brave in the dark",
        ("firefly", "bright|tiny|kind", ""),
        "every shadow looked like a monster",
        "light",
        (
            "{He} hid under the blanket, but it was dark there too.",
            "{He} sang a song, but {his} voice was shaking.",
        ),
        "{Helper} shone on the shadows one by one, and they were only a chair, a coat and a tree outside the window.",
        "That night {hero} slept with a smile, for {he} was not afraid of the dark anymore.",
    ),
)
LEARN_MORALS = (
    "{Hero} learned that practice makes everything easier",
    "{Hero} learned that you must never give up",
    "And {he} never forgot {helper}, who had been such a [good|patient] teacher",
    "Later, {hero} taught it to {his} [little brother|little sister|friends] too",
    "{Hero} knew now that every big thing begins with a small step",
)


def learning_plot(hero: Hero, place: Place, rng: random.Random) -> Plot | None:
    """The hero wants to learn something and finds a patient teacher."""
    skill, (noun, looks, _), trouble, able, tries, lesson, result = rng.choice(LESSONS)
    if noun == hero.kind or hero.skills & set(able.split()):
        return None
    if skill == "swim" and not place.tags & {"river", "sea"}:
        return None
    if skill == "skate" and (
        not place.tags & {"snow", "mountain", "river"} or hero.kind == "penguin"
    ):
        return None
    helper = named_helper(noun, looks, hero, rng)
    want = f"to {skill}" if skill.startswith("be") else f"to learn to {skill}"
    return Plot(
        key=f"learn-{skill}",
        about="being brave" if skill.startswith("be") else f"learning to {skill}",
        want=want,
        setup=(
            f"{{Hero}} wanted {want}. [All {{his}} friends could do it.|{{He}} dreamed about it every night.|{{He}} had wished for it for a long time.] {{Day}}, {{he}} [tried|began to try]."
        ),
        trouble=trouble,
        tries=tries,
        helper=helper,
        meet=meeting(helper),
        solve=lesson,
        result=result,
        morals=LEARN_MORALS,
        glad="[happy|proud|very proud]",
        day="One [winter|cold|snowy] [day|morning]" if skill == "skate" else None,
    )
