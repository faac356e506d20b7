"""Simulating one story and telling it."""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .crafts import making_plot
from .hearts import friend_plot, honesty_plot
from .journeys import journey_plot
from .lessons import learning_plot
from .people import Hero, draw_hero
from .places import DAYS, PLACES, WINTER_DAYS, Place
from .plot import Plot
from .rescues import rescue_plot
from .things import thing_plot
from .words import fill, polish, sentence

_PLOTS: tuple[tuple[Callable[[Hero, Place, random.Random], Plot | None], int], ...] = (
    (thing_plot, 9),
    (journey_plot, 4),
    (making_plot, 4),
    (learning_plot, 3),
    (rescue_plot, 3),
    (friend_plot, 2),
    (honesty_plot, 2),
)
_CAPITALS = ("hero", "he", "his", "helper", "hhe", "hhis", "helper_intro", "trouble")


@dataclass(frozen=True)
class Tale:
    """One simulated story: who, where and what happens, with the slots for its templates."""

    hero: Hero
    place: Place
    plot: Plot
    slots: dict[str, str]

    @property
    def key(self) -> str:
        return f"{self.hero.kind}|{self.place.where}|{self.plot.key}"

    @property
    def held_out(self) -> bool:
        """Whether this combination of hero, place and plot is kept for evaluation (1 in 25)."""
        return zlib.crc32(self.key.encode()) % 25 == 0

    def say(self, template: str | Sequence[str], rng: random.Random) -> str:
        """A finished sentence from a template."""
        return sentence(template, self.slots, rng)


def simulate(rng: random.Random) -> Tale:
    """Draw a hero, a place and a plot that fit together."""
    makers = [maker for maker, _ in _PLOTS]
    weights = [weight for _, weight in _PLOTS]
    while True:
        hero, place = draw_hero(rng), rng.choice(PLACES)
        plot = rng.choices(makers, weights)[0](hero, place, rng)
        if plot is not None:
            slots = _slots(hero, place, plot, rng)
            # Drawn once, so that an answer about the story says what the story said.
            solve, result = fill(plot.solve, slots, rng), fill(plot.result, slots, rng)
            return Tale(hero, place, replace(plot, solve=solve, result=result), slots)


def _day(place: Place, rng: random.Random) -> str:
    return (
        WINTER_DAYS
        if "snow" in place.tags and rng.random() < 0.7
        else rng.choice(DAYS[5:] if "snow" in place.tags else DAYS)
    )


def _slots(hero: Hero, place: Place, plot: Plot, rng: random.Random) -> dict[str, str]:
    slots = {"hero": hero.ref, **hero.pronouns, **plot.extra}
    slots |= {"place": place.where, "trait": hero.trait, "kind_of": hero.described}
    slots |= {"sad": fill(plot.sad, slots, rng), "glad": fill(plot.glad, slots, rng)}
    slots |= {"Day": plot.day or _day(place, rng)}
    theirs = plot.helper.pronouns
    slots |= {"hhe": theirs["he"], "hhim": theirs["him"], "hhis": theirs["his"]}
    slots |= {"helper": fill(plot.helper.ref, slots, rng)}
    slots |= {"helper_intro": fill(plot.helper.intro, slots, rng)}
    slots |= {"want": fill(plot.want, slots, rng), "trouble": fill(plot.trouble, slots, rng)}
    slots |= {"Day": fill(slots["Day"], slots, rng)}
    for name in _CAPITALS:
        slots[name.capitalize()] = slots[name][0].upper() + slots[name][1:]
    return slots


_OPENINGS = (
    (
        "[Once upon a time|Once upon a time|Once upon a time|Long ago|A long time ago|Once|Many years ago], "
        "[there was {who}|there lived {who}|{who} lived {place}]."
    ),
    "[Once upon a time|Long ago|Once|Many years ago], {place}, there [lived|was] {who}.",
    "There [once was|was once] {who}. {He} lived {place}.",
    "{Place}, there [lived|was] {who}.",
    "{Place} lived {who}.",
    "{Who} lived {place}.",
    "{Who} lived {place}.",
    "This is the story of {who}. {He} lived {place}.",
    "Do you know the story of {who}? {He} lived {place}.",
    "Not so long ago, there was {who}. {He} lived {place}.",
    "Every child knew {who}, who lived {place}.",
    "One day, {who} [came|moved] to a new home {place}.",
    "It was a [sunny|beautiful|bright|quiet] [morning|day] {place}. {Who} [woke up|looked out of the door|came out to play].",
    "It was a [warm|windy|cool|fine] [morning|day] {place}, and {who} was [wide awake|already outside].",
)
_DATED = 2  # how many openings, at the end, name the weather


def _opening(tale: Tale, rng: random.Random, trait: bool) -> str:
    hero = tale.hero
    noun = f"{hero.small} {hero.kind}".strip()
    full = f"{hero.trait} {noun}" if trait or rng.random() < 0.5 else noun
    if hero.name is None:
        who = f"a {full}"
    else:
        who = f"a {full} " + rng.choice(
            ("named {hero}", "named {hero}", "called {hero}", "whose name was {hero}")
        )
    slots = dict(tale.slots)
    slots |= {"who": fill(who, slots, rng), "Place": tale.place.where}
    slots["Who"] = slots["who"]
    fitting = _OPENINGS[:-_DATED] if tale.plot.day else _OPENINGS
    template = _OPENINGS[0] if rng.random() < 0.15 else rng.choice(fitting)
    if "who}. {He}" not in template and "named" in who and rng.random() < 0.1:
        slots["Who"] = slots["who"] = f"{hero.name} the {noun}"
    text = fill(template, slots, rng)
    if tale.place.where not in text:
        text += f" {slots['He']} lived {tale.place.where}."
    if hero.name is None and rng.random() < 0.5 and text.startswith("a "):
        text = "The " + text[2:]
    elif hero.name and rng.random() < 0.12:
        text = rng.choice(
            (
                f"{hero.name} was a {full}. {slots['He']} lived {tale.place.where}.",
                f"The {full} lived {tale.place.where}. {slots['His']} name was {hero.name}.",
            )
        )
    return polish(text)


_TRAIT = {
    "brave": "{He} was not afraid of anything, or almost not.",
    "kind": "{He} had a good word for everyone.",
    "curious": "{He} wanted to know everything.",
    "clever": "{He} always had a good idea.",
    "shy": "{He} did not talk much, but {he} listened well.",
    "cheerful": "{He} sang from morning to evening.",
    "gentle": "{He} never hurt a fly.",
    "playful": "{He} loved games more than anything.",
    "quiet": "{He} liked to sit and watch the clouds.",
    "friendly": "{He} said hello to everyone.",
    "busy": "{He} always had something to do.",
    "dreamy": "{He} often looked at the sky and dreamed.",
    "careful": "{He} always looked twice before a step.",
    "silly": "{He} made everyone laugh.",
    "helpful": "{He} helped wherever {he} could.",
    "stubborn": "When {he} wanted something, {he} did not give up.",
    "lively": "{He} could not sit still for a minute.",
    "thoughtful": "{He} thought about many things.",
}
_LIKES = (
    (
        "{He} loved [honey|warm milk|strawberries|apples|pancakes|fresh bread|cherry jam|plums|nuts] and "
        "[long walks|old songs|soft rain|funny hats|bright colors|the smell of summer|sleepy mornings|riddles]."
    ),
    "{He} had [two|three|four|five|six] [brothers|sisters|cousins], and all of them were [noisy|merry|clever|kind].",
    "In the mornings, {he} liked to [stretch in the sun|listen to the birds|drink a cup of tea|sweep the floor|count the clouds].",
    "[Everyone|The whole family|All the neighbors] liked {him} [very much|because {he} was so {trait}|for {his} bright smile].",
    "{His} favorite game was [hide-and-seek|hopscotch|tag|dominoes|treasure hunt], and {his} favorite color was [red|blue|green|yellow|orange].",
    "{He} had [a scratch on {his} nose|bright eyes|a loud laugh|a soft voice|a warm heart|quick feet] and [a head full of ideas|a pocket full of crumbs|a great deal of courage|plenty of time].",
    "{He} dreamed of [adventures|faraway lands|becoming a captain|meeting a mermaid|touching a cloud] [every night|all the time|now and then].",
    "{He} collected [stones|feathers|leaves|buttons|stamps|acorns|bottles] and kept them in a [box|drawer|jar|pocket|tin].",
    "{His} [room|bed|corner] was [small|cozy|tidy|warm] and [full of books|full of toys|bright|always open for guests].",
)
_BUT = (
    "But [then |]{trouble}.",
    "[Suddenly|All at once|All of a sudden], {trouble}.",
    "But [oh no|oh dear]! {Trouble}.",
)
_STATE_BUT = (
    "But {trouble}.",
    "But [oh no|oh dear], {trouble}.",
    "There was [only one|a] problem: {trouble}.",
)
_SAD = (
    "{Hero} was {sad}.",
    "{Hero} felt {sad}.",
    "{Hero} was so {sad} that {he} [began to cry|almost cried].",
    '"What [shall|can] I do now?" [said|asked|cried] {hero}. {He} felt {sad}.',
    '"Oh no!" cried {hero}. {He} was {sad}.',
)
_TRUTH_SAD = ("{Hero} felt {sad}.", "{Hero} was {sad}.")
_FIRST = ("", "First, ", "At first, ")
_SECOND = ("Then ", "After that, ", "")
_ASK = (
    '"[What is wrong|What is the matter|Why are you so sad|Can I help you]?" asked {helper}. [{Hero} told {hhim} everything|{Hero} explained what had happened]. "[I can help you|Do not worry, I will help you|Leave it to me|I know what to do|Let me try]!" said {helper}.',
    '"[Please|Excuse me|Please, please], can you help me?" asked {hero}. "[Of course I can|Of course|Yes, gladly|With pleasure|Why not]!" said {helper}.',
    '{Hero} told {hhim} what had happened. {Helper} [nodded|smiled|thought for a moment]. "[I have an idea|I can do that|That is easy for me|We will do it together]," {hhe} said.',
    "{Hero} asked {hhim} for help, and {helper} [said yes at once|was glad to help|nodded].",
    '"Do not be sad," said {helper}. "[I will help you|Together we can do it|I know a way]."',
)
_ASK_FAMILY = (_ASK[0], *_ASK[2:])
_GLAD = (
    "{Hero} was {glad}.",
    "{Hero} was so {glad} that {he} [danced|jumped up and down|laughed out loud].",
    '"Thank you [so much|very much|from my heart]!" said {hero}. {He} was {glad}.',
    "{Hero} hugged {helper}. {He} was {glad}.",
    '{Hero} felt {glad}. "[Thank you|You are wonderful|What would I do without you]!" {he} [said|cried].',
)
_THANKS = (
    "",
    "",
    "To say thank you, {hero} [shared {his} lunch with {helper}|sang a song for {helper}|gave {helper} a flower|invited {helper} for tea|baked {helper} a little cake].",
    '"You are welcome," said {helper} [with a smile|and smiled|kindly].',
)
_GIFTS = _THANKS[:-1]
_CLOSE = (
    "",
    "",
    "",
    "",
    "The end.",
    "And they all lived happily ever after.",
    "That night, {hero} slept [well|like a stone|deeply] and had sweet dreams.",
    "It was the best day of all.",
    "And when the stars came out, {hero} was still smiling.",
    "And [the moon|the evening star|the wind] seemed to smile too.",
    "In the evening, {hero} told the whole adventure to {his} family.",
    "What a [wonderful|lucky|splendid|perfect] day it was!",
    "And if you go there today, you may still see the two of them.",
)


def _state(plot: Plot) -> bool:
    """Whether the trouble is a state ("there was ...") and not a sudden event."""
    return plot.key.startswith(("make", "learn", "friend", "go"))


def beats(tale: Tale, rng: random.Random, brief: bool, trait: bool) -> list[list[str]]:
    """The story as paragraphs of finished sentences; ``brief`` leaves out the ornaments."""
    plot, say = tale.plot, tale.say
    first = [_opening(tale, rng, trait)]
    if first[0].startswith("It was a"):  # the day has been named already
        tale.slots["Day"] = "That [day|very day|same day]"
    if not brief:
        ornaments = (rng.choice(tale.place.details), _TRAIT[tale.hero.trait], rng.choice(_LIKES))
        kept = rng.choice(((0,), (0,), (1,), (2,), (0, 1), (0, 2)))
        first += [say(ornaments[number], rng) for number in kept]
    first.append(say(plot.setup, rng))
    rescue, truth = plot.key.startswith("rescue"), plot.key.startswith("truth")
    if rescue:
        second = [say(("{Trouble}.", "{Trouble}!", "There {he} saw it: {trouble}."), rng)]
    else:
        second = [say(_STATE_BUT if _state(plot) else _BUT, rng)]
    second.append(say("{Hero} [felt|was] {sad}." if rescue else _TRUTH_SAD if truth else _SAD, rng))
    tries = rng.sample(
        plot.tries, 1 if brief else rng.choice((1, 2, 2)) if len(plot.tries) > 1 else 1
    )
    if truth or rescue or len(tries) == 1:
        leads = [""] * 2
    else:
        leads = [rng.choice(_FIRST), rng.choice(_SECOND)]
    for lead, attempt in zip(leads, tries, strict=False):
        second.append(say(lead + (attempt.replace("{He}", "{he}", 1) if lead else attempt), rng))
    third = [say(plot.meet, rng)]
    if not truth and not plot.key.startswith("friend") and not brief:
        third.append(say(_ASK_FAMILY if plot.helper.family else _ASK, rng))
    third.append(say(plot.solve, rng))
    fourth = [say(plot.result, rng), say(_GLAD if not truth else "{Hero} was {glad}.", rng)]
    if not brief:
        thanked = "hank you" in fourth[-1]
        fourth += [
            say(text, rng)
            for text in (rng.choice(_THANKS if thanked else _GIFTS),)
            if text and not truth
        ]
        morals = [text for text in plot.morals if not (plot.helper.family and "friend" in text)]
        fourth.append(say(rng.choice(morals) + ".", rng))
        fourth += [say(text, rng) for text in (rng.choice(_CLOSE),) if text]
    return [first, second, third, fourth]


def _joined(tale: Tale, paragraph: list[str], rng: random.Random) -> str:
    """The sentences as one text, with "he" or "she" for some of the repeated names."""
    hero, helper = tale.slots["Hero"], tale.slots["helper"]
    text = paragraph[0]
    for before, after in itertools.pairwise(paragraph):
        clear = before.startswith(hero) and helper not in before and '"' not in before
        if clear and after.startswith(f"{hero} ") and rng.random() < 0.7:
            text += f" {tale.slots['He']}{after[len(hero) :]}"
        else:
            text += f" {after}"
    return text


def tell(tale: Tale, rng: random.Random, brief: bool = False, trait: bool = False) -> str:
    """The story as text: one paragraph when brief, otherwise one to four.

    ``trait`` makes sure that the hero's trait is named.
    """
    parts = [_joined(tale, paragraph, rng) for paragraph in beats(tale, rng, brief, trait)]
    if brief or rng.random() < 0.2:
        return " ".join(parts)
    if rng.random() < 0.5:
        parts = [parts[0], f"{parts[1]} {parts[2]}", parts[3]]
    return "\n\n".join(parts)
