"""The shape of every plot: a wish, what is in the way, who helps and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from .people import Helper


@dataclass(frozen=True)
class Plot:
    """What happens in one story. All texts are templates (see ``words.py``)."""

    key: str  # names the combination, for keeping held-out stories apart
    about: str  # what a reader could ask for: "a red kite"
    want: str  # infinitive: "to fly {his} red kite"
    setup: str  # how the wish comes up; one or two sentences
    trouble: str  # what goes wrong, as a clause: "the wind blew the kite into a tall tree"
    tries: tuple[str, ...]  # what the hero does without success, one sentence each
    helper: Helper
    meet: str  # how the helper comes in
    solve: str  # what the helper does about exactly this trouble
    result: str  # the wish comes true
    morals: tuple[str, ...]
    sad: str = "[sad|unhappy|upset]"
    glad: str = "[happy|very happy|glad|full of joy]"
    day: str | None = None
    extra: dict[str, str] = field(default_factory=dict)


MEET = (
    "Just then, {helper_intro} came [by|along].|{Helper_intro} heard {him} and came closer."
    "|Then {hero} met {helper_intro}.|After a while, {helper_intro} came along the path."
    "|Not far away, {helper_intro} was [watching|resting|humming a tune|enjoying the sunshine]."
    "|Luckily, {helper_intro} [passed by|was nearby].|Around the corner came {helper_intro}."
    "|{Hero} looked around and saw {helper_intro}."
)
MEET_FAMILY = (
    "Then {helper} came [to see what was wrong|to look for {him}|outside]."
    "|{Hero} ran to {helper}.|{Helper} saw {his} sad face and came over."
)
HELP_MORALS = (
    "{Hero} learned that it is good to ask for help",
    "{Hero} learned that friends can do together what one cannot do alone",
    "{Hero} knew now that [a good friend is worth more than gold|help is often very near]",
    "From then on, {hero} helped others too",
    "And from that day on, {hero} and {helper} were [good|best] friends",
    "{Hero} promised to [remember this day forever|pass the kindness on]",
    "{Hero} understood that patience and good ideas are stronger than tears",
    "And {he} never forgot how kind {helper} had been",
)


def meeting(helper: Helper) -> str:
    """How this helper enters: relatives are known, everybody else is met."""
    return f"[{MEET_FAMILY if helper.family else MEET}]"
