"""Plots about a thing that gets lost, stuck or broken, and comes back."""

from __future__ import annotations

import random

from .people import Hero, draw_helper
from .places import Place
from .plot import HELP_MORALS, Plot, meeting
from .words import words

COLORS = words("red blue green yellow white purple orange pink golden silver striped")

# thing; what one does with it; what it is like: light (the wind takes it), round (it rolls),
# soft (it tears), floats, small
_THINGS = """
kite; fly {}; light soft
hat; wear {}; light soft
balloon; play with {}; light
scarf; wear {}; light soft
ribbon; dance with {}; light soft small
feather; draw with {}; light small
paper plane; throw {}; light
paper bird; play with {}; light
flag; wave {}; light soft
umbrella; walk with {}; light soft
ball; play with {}; round floats
marble; play with {}; round small
button; sew {} on a coat; round small
ring; show {} to a friend; round small
coin; buy a sweet bun with {}; round small
bell; ring {}; round small
apple; share {} with a friend; round floats
hoop; roll {} down the path; round
yo-yo; play with {}; round small
wheel; fix a cart with {}; round
drum; play {}; round floats
toy boat; sail {}; floats
paper boat; sail {}; floats light
wooden duck; take {} for a swim; floats
bucket; carry water in {}; floats round
basket; pick berries with {}; floats
doll; have a tea party with {}; soft floats
teddy bear; cuddle {}; soft
blanket; have a picnic on {}; soft light
coat; wear {} to the party; soft
book; read {}; plain
picture; show {} to a friend; light
map; look for treasure with {}; light soft
key; open a secret box with {}; small
whistle; blow {}; small floats
flute; play {}; floats
spoon; stir the soup with {}; small
shell; listen to {}; small round
toy car; race {}; round
toy train; play with {}; round
lantern; light {} at night; plain
puzzle; finish {}; plain
necklace; wear {} to the party; small
mirror; look into {}; plain
pocket watch; look at {}; small round
jump rope; jump with {}; plain
scooter; ride {}; round
wagon; pull {}; round
sled; ride {} down the hill; plain
pumpkin; carve a face into {}; round
watering can; water the flowers with {}; plain
trumpet; play {}; plain
guitar; play {}; plain
puppet; put on a show with {}; soft
magnifying glass; study beetles with {}; small
compass; find the way north with {}; small round
telescope; look at the moon with {}; plain
snow globe; shake {}; round
paintbrush; paint a sunset with {}; small
pencil; draw a whale with {}; small
cap; wear {}; light soft
mitten; wear {}; soft small
sock; knit a partner for {}; soft small
cape; play hero with {}; light soft
tent; sleep in {}; soft
teapot; make tea in {}; round
toy rocket; fly to the moon with {}; plain
rocking horse; ride {}; plain
spinning top; spin {}; round small
pearl; give {} to {his} mother; round small
letter; bring {} to the post office; light
postcard; read {}; light
crown; play king of the hill with {}; round
pinwheel; watch {} turn in the wind; light
"""
THINGS = tuple(
    (noun, use, frozenset(marks.split()))
    for noun, use, marks in (
        [cell.strip() for cell in row.split(";")] for row in _THINGS.strip().splitlines()
    )
)


# where it happens (tags; empty: anywhere); marks the thing needs; trouble; failed tries;
# then skill = how somebody with that skill puts it right
_TROUBLES = """
@tree; woods farm village city river; light; [a strong wind|a gust of wind|the wind] blew the {thing} up into a tall tree
- {He} jumped as high as {he} could, but the branch was [much |far |]too high.
- {He} shook the tree, but the {thing} did not fall down.
- {He} threw a stick at it, but [the stick fell back down|{he} missed every time].
fly: {Helper} flew up to the branch, took the {thing} and [brought|carried] it down.
climb: {Helper} climbed up the tree, from branch to branch, and brought the {thing} down.
tall: {Helper} [reached up|stretched up high] and took the {thing} from the branch.
ladder: {Helper} put a long ladder against the tree, climbed up and brought the {thing} down.
@roof; village city farm; light; the wind [carried|blew] the {thing} onto a high roof
- {He} stood on a box, but {he} could not reach the roof.
- {He} waited for the wind to blow it down, but it stayed where it was.
fly: {Helper} flew up to the roof and pushed the {thing} over the edge, and it landed at {his} feet.
climb: {Helper} climbed up the wall, walked along the roof and brought the {thing} down.
ladder: {Helper} [fetched|brought] a long ladder and got the {thing} from the roof.
tall: {Helper} stretched up high and took the {thing} from the roof.
@pond; river; floats; the {thing} fell into the water and floated [away|far from the shore]
- {He} reached for it with a long stick, but the stick was too short.
- {He} threw little stones to make waves, but the {thing} only floated farther away.
- {He} blew and blew, but the {thing} did not come back.
swim: {Helper} swam out and pushed the {thing} back to the shore.
boat: {Helper} rowed out in {hhis} boat and lifted the {thing} out of the water.
@waves; sea; floats; a big wave carried the {thing} out to sea
- {He} ran after it, but the water was too deep.
- {He} waited for the next wave, but it did not bring the {thing} back.
swim: {Helper} swam out through the waves and brought the {thing} back to the beach.
boat: {Helper} rowed out in {hhis} boat and caught the {thing} with a net.
fly: {Helper} flew out over the waves, picked up the {thing} and dropped it on the sand.
@sank; river; small; the {thing} slipped and sank to the bottom of the water
- {He} looked down, but the water was too deep.
- {He} tried to reach it with a stick, but {he} only stirred up the mud.
swim: {Helper} dived down to the bottom and came up with the {thing}.
@hole; ; round; the {thing} rolled [away and fell|down the path and fell] into a deep hole
- {He} reached into the hole, but it was too deep.
- {He} poked into the hole with a stick, but the {thing} only slipped deeper.
dig: {Helper} dug and dug until the hole was wide, and then {hhe} pulled the {thing} out.
rope: {Helper} let down a long rope with a hook and pulled the {thing} up.
@crack; ; small; the {thing} slipped into a narrow crack between two [rocks|stones|old boards]
- {He} tried to reach it, but the crack was much too narrow.
- {He} tried to catch it with a bent stick, but it slipped away again.
small: {Helper} was so small that {hhe} could walk right into the crack, and {hhe} [rolled|pushed] the {thing} out.
@thorns; woods farm mountain wild village; small; the {thing} fell into a thick bush full of thorns
- {He} reached in, but the thorns [pricked|scratched] {him}.
- {He} shook the bush, but nothing fell out.
small: {Helper} crept under the thorns, where nobody else could go, and brought the {thing} out.
@mud; farm river wild woods; plain; the {thing} got stuck in deep mud
- {He} pulled as hard as {he} could, but it did not move.
- {He} stepped closer, but {his} own feet began to sink.
strong: {Helper} took hold of the {thing} and pulled, and with a loud pop it came out of the mud.
rope: {Helper} threw a rope around the {thing} and slowly pulled it out of the mud.
@stone; mountain woods wild farm sea; plain; a big stone rolled down the hill and trapped the {thing}
- {He} pushed the stone, but it was much too heavy.
- {He} tried to pull the {thing} free, but the stone held it fast.
strong: {Helper} was so strong that {hhe} rolled the stone away, and the {thing} was free.
dig: {Helper} dug under the stone until it tipped over, and the {thing} was free.
@cave; mountain woods sea; round; the {thing} rolled into a dark cave
- {He} went in three steps, but it was too dark to see anything.
- {He} felt along the ground, but {he} found only cold stones.
light: {Helper} went into the cave with {him} and made it bright, and there lay the {thing}.
@cellar; village city farm; round; the {thing} rolled down the steps into a dark cellar
- {He} went down one step, but it was as dark as night.
- {He} called into the dark, but only {his} own voice came back.
light: {Helper} brought a light, and in a corner of the cellar they saw the {thing}.
@shed; village farm city; plain; somebody locked the shed while the {thing} was still inside
- {He} pulled at the door, but it stayed shut.
- {He} looked through the window, but it was closed too.
key: {Helper} had a big bunch of keys, and one of them opened the shed.
small: {Helper} squeezed under the door and opened it from inside.
@chest; ; small; the lid of an old box fell shut, and the {thing} was locked inside
- {He} pulled at the lid, but it did not open.
- {He} shook the box, but the lid stayed shut.
key: {Helper} had a tiny key that fit the lock, and the box opened with a click.
@torn; ; soft; the {thing} got caught on a nail and tore in two
- {He} tried to tie it together, but it fell apart again.
- {He} tried to fix it with glue, but the glue did not hold.
mend: {Helper} took a needle and thread and sewed the {thing} until it was as good as new.
@grass; farm wild woods; small; the {thing} fell into the tall grass and was gone
- {He} looked left and right, but {he} saw only grass.
- {He} crawled around until {his} knees were green, but {he} did not find it.
sniff: {Helper} sniffed here and sniffed there, and soon {hhis} nose found the {thing}.
fly: {Helper} flew over the grass, saw something shine and found the {thing}.
@snow; snow; plain; a heap of snow fell from a branch and covered the {thing}
- {He} dug until {he} was cold, but {he} dug in the wrong place.
- {He} looked everywhere, but everything was white.
sniff: {Helper} sniffed the snow, stopped and scratched, and there was the {thing}.
dig: {Helper} dug through the snow so fast that it flew in all directions, and soon the {thing} was free.
@ice; snow; round; the {thing} rolled out onto the thin ice
- {He} put one foot on the ice, but it cracked.
- {He} reached for it with a branch, but the branch was too short.
fly: {Helper} flew over the ice, took the {thing} and brought it back.
rope: {Helper} made a loop in a rope, threw it over the ice and pulled the {thing} back.
@frozen; snow mountain; round; the {thing} fell into a puddle and froze in the ice
- {He} knocked on the ice, but it was as hard as stone.
- {He} tried to melt it with {his} breath, but it was too cold.
warm: {Helper} blew warm air on the ice until it melted, and the {thing} was free.
@well; village farm mountain; round; the {thing} fell into a dry well
- {He} looked down, but the well was deep and dark.
- {He} lowered a string with a hook, but it was too short.
rope: {Helper} tied a hook to a long rope, let it down and pulled up the {thing}.
fly: {Helper} flew down into the well and came up again with the {thing}.
@fence; village city farm; round; the {thing} bounced over a high fence
- {He} tried to climb over, but the fence was too smooth.
- {He} looked for a gate, but there was none.
fly: {Helper} flew over the fence and brought the {thing} back.
climb: {Helper} climbed over the fence and threw the {thing} back.
dig: {Helper} dug a tunnel under the fence and rolled the {thing} back through it.
tall: {Helper} reached over the fence and picked up the {thing}.
@nest; woods village farm city sea; small; a [magpie|jackdaw] took the {thing} and put it into its nest, high up on a [tower|wall|rock]
- {He} called to the bird, but it did not listen.
- {He} tried to climb up, but {he} slid down again.
fly: {Helper} flew to the nest and gave the bird a shiny pebble, and the bird gave back the {thing}.
climb: {Helper} climbed up to the nest, left a shiny pebble there and brought back the {thing}.
@knot; ; plain; the {thing} got tangled in an old net
- {He} pulled at the net, but the knots only got tighter.
- {He} tried to open the knots, but there were too many.
gnaw: {Helper} bit through the net, one string after the other, until the {thing} was free.
mend: {Helper} opened the knots with patient fingers, one after the other, until the {thing} was free.
"""


class Trouble:
    """One way to lose a thing, with the skills that undo it."""

    def __init__(self, head: str) -> None:
        self.key, tags, marks, self.text = (cell.strip() for cell in head[1:].split(";", 3))
        self.tags = frozenset(tags.split())
        self.marks = frozenset(marks.split()) - {"plain"}
        self.tries: list[str] = []
        self.solutions: dict[str, str] = {}

    def fits(self, marks: frozenset[str], hero: Hero, place: Place) -> bool:
        return (
            self.marks <= marks
            and (not self.tags or bool(self.tags & place.tags))
            and not hero.skills & set(self.solutions)
        )


def _read() -> tuple[Trouble, ...]:
    troubles: list[Trouble] = []
    for line in _TROUBLES.strip().splitlines():
        if line.startswith("@"):
            troubles.append(Trouble(line))
        elif line.startswith("-"):
            troubles[-1].tries.append(line[2:])
        else:
            skill, text = line.split(": ", 1)
            troubles[-1].solutions[skill] = text
    return tuple(troubles)


TROUBLES = _read()


def thing_plot(hero: Hero, place: Place, rng: random.Random) -> Plot | None:
    """The hero's thing is lost or stuck, and a helper brings it back."""
    noun, use, marks = rng.choice(THINGS)
    fitting = [trouble for trouble in TROUBLES if trouble.fits(marks, hero, place)]
    if not fitting:
        return None
    # Troubles that suit the thing and the place are more telling than those that suit anything.
    weights = [(3 if trouble.marks else 1) * (3 if trouble.tags else 1) for trouble in fitting]
    trouble = rng.choices(fitting, weights)[0]
    skill, solve = rng.choice(tuple(trouble.solutions.items()))
    helper = draw_helper(skill, place.tags, hero, rng)
    if helper is None:
        return None
    color = rng.choice(COLORS)
    owned = "{his} " + f"{color} {noun}"
    source = rng.choice(
        (
            f"{{Hero}} had a {color} {noun}.",
            f"{{Hero}} had a {color} {noun}. It was a present from {{his}} [grandmother|grandfather|best friend|aunt].",
            f"For {{his}} birthday, {{hero}} got a {color} {noun}.",
            f"{{His}} [favorite|best|dearest] thing was a {color} {noun}.",
            f"{{Hero}} [loved|was proud of] {{his}} {color} {noun}.",
        )
    )
    wish = use.replace("{}", owned)
    return Plot(
        key=f"{noun}-{trouble.key}",
        about=f"a {color} {noun}",
        want=f"to {wish}",
        setup=f"{source} {{Day}}, {{he}} [wanted|went out|decided] to {use.replace('{}', 'it')}.",
        trouble=trouble.text,
        tries=tuple(trouble.tries),
        helper=helper,
        meet=meeting(helper),
        solve=solve,
        result=f"Now {{hero}} could {wish} [again|at last].",
        morals=(*HELP_MORALS, "{Hero} took good care of the {thing} from then on"),
        extra={"thing": noun},
        day="One [winter|cold|snowy] [day|morning]"
        if trouble.key in ("ice", "frozen", "snow")
        else None,
    )
