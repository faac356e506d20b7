"""Where stories happen: places with matching details, weather and times of day."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    where: str  # with its preposition: "in a small village"
    noun: str  # "village", for questions
    tags: frozenset[str]
    details: tuple[str, ...]


_TABLE = """
in a small village; village; village; There were [red|white|blue] roofs and a little square with a fountain.|Everybody there knew everybody.
in a quiet village by a river; village; village river; The river sang all day long.|A stone bridge crossed the water.
in a village on a hill; village; village; From the top you could see the whole valley.|The church bell rang every hour.
in a big green forest; forest; woods; The trees were tall and old.|The ground was soft with moss.|Birds sang in every tree.
in a deep, dark forest; forest; woods; Only a little light came through the leaves.|It smelled of pine and mushrooms.
at the edge of the woods; woods; woods farm; Wild berries grew along the path.|Tall grass waved in the wind.
in a hollow tree in the woods; woods; woods; The tree was warm and dry inside.|There was a soft bed of leaves in it.
in an old oak wood; wood; woods; Acorns covered the ground.|The oaks were hundreds of years old.
in a sunny meadow; meadow; woods farm; Yellow flowers grew everywhere.|Bees and butterflies danced over the grass.
on a farm; farm; farm; There was a red barn and a big field of corn.|The rooster crowed every morning.
on a little farm near a stream; farm; farm river; The stream was cool and clear.|There were hens, cows and one old tractor.
in a red barn; barn; farm; The barn smelled of sweet hay.|Swallows lived under the roof.
in an apple orchard; orchard; farm; The trees were full of [red|green] apples.|In spring, the trees were pink with blossom.
in a valley full of sheep; valley; farm mountain; The hills were soft and green.|You could hear bells all day.
by a wide river; river; river; The water was blue and fast.|Willow trees leaned over the water.
by a quiet pond; pond; river woods; Water lilies floated on it.|Dragonflies flew over the water.
next to a clear lake; lake; river woods; In the morning the lake was like a mirror.|Reeds grew along the shore.
near a waterfall; waterfall; river mountain; The water sparkled like silver.|A rainbow often stood over the rocks.
by the sea; sea; sea; The waves rolled in day and night.|The air tasted of salt.
on a small island; island; sea; There was sand on every side.|Palm trees gave cool shade.
in a fishing town; town; sea village; Colorful boats rocked in the harbor.|Seagulls cried over the roofs.
in a house on the beach; beach; sea; Shells lay all over the sand.|You could hear the waves from every window.
near an old lighthouse; lighthouse; sea; At night its light turned round and round.|It was as white as milk.
in a busy city; city; city; Cars and buses hurried by.|The houses were as high as the clouds.
in a tall house in the city; city; city; From the window you could see a hundred roofs.|There was a small park across the street.
next to a big park; park; city; There was a playground with a slide and a swing.|People walked their dogs there.
in a narrow street with a bakery; street; city village; The whole street smelled of warm bread.|The windows were full of flowers.
in a little blue house; house; village; There was a garden behind it.|The door was yellow as the sun.
in a cottage with a garden; garden; village farm; Roses climbed up the wall.|Carrots and beans grew in neat rows.
near a school; school; village city; Children laughed and ran in the yard.|A bell rang in the morning.
high up in the mountains; mountains; mountain; The air was fresh and cold.|Snow covered the highest peaks.
in a cave on a mountain; mountain; mountain; The cave was dry and cozy.|You could see far over the land.
in a mountain village; village; mountain village; The houses were built of stone.|Goats walked through the streets.
in the snowy north; north; snow; Everything was white and still.|The ice shone in the sun.
in a land of ice and snow; land; snow; The wind was cold, but the homes were warm.|At night, green lights danced in the sky.
in a snowy forest; forest; snow woods; The branches were heavy with snow.|Little tracks ran over the white ground.
in a jungle; jungle; wild; Bright flowers and long vines grew there.|Parrots called from the trees.
on a wide, grassy plain; plain; wild; The grass was as high as your knees.|Big trees stood here and there.
near a watering hole; watering hole; wild river; All the animals came there to drink.|The mud was cool and good.
in a castle; castle; village; The castle had five towers and a big gate.|Flags waved on the walls.
in a kingdom far away; kingdom; village woods; A kind queen ruled the land.|There was a castle with golden windows.
in a windmill; windmill; farm village; Its big arms turned slowly in the wind.|There was always flour on the floor.
on a houseboat; boat; river city; It was painted green and red.|It rocked softly at night.
in a wagon at the edge of town; town; village; The wagon had round windows and red wheels.|There was a small stove inside.
"""


def _places() -> tuple[Place, ...]:
    places = []
    for row in _TABLE.strip().splitlines():
        where, noun, tags, details = (cell.strip() for cell in row.split(";"))
        split = _split_choices(details)
        places.append(Place(where, noun, frozenset(tags.split()), split))
    return tuple(places)


def _split_choices(details: str) -> tuple[str, ...]:
    """Split on "|" outside of square brackets."""
    parts, depth = [""], 0
    for char in details:
        depth += (char == "[") - (char == "]")
        if char == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return tuple(parts)


PLACES = _places()

WINTER_DAYS = "One [winter|cold|snowy|clear|bright] [day|morning]"

DAYS = (
    "One [sunny|warm|bright|windy|cool|fine] [morning|day|afternoon]",
    "One day",
    "One [spring|summer|autumn] [morning|day]",
    "On a [sunny|windy|warm|quiet] [morning|day|afternoon]",
    "One Sunday",
    "Early one morning",
    "One evening",
    "After breakfast",
    "After lunch one day",
)
