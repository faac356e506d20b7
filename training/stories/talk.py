"""Conversations: requests for stories, questions about stories, and small talk."""

from __future__ import annotations

import random
import zlib

from .telling import Tale, simulate, tell
from .words import sentence, words

Message = dict[str, str]


def _turn(user: str, assistant: str) -> list[Message]:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


_REQUESTS = (
    "Tell me a story about {x}.",
    "Tell me a story about {x}.",
    "Please tell me a story about {x}.",
    "Can you tell me a story about {x}?",
    "Could you tell me a story about {x}, please?",
    "I would like a story about {x}.",
    "Write a story about {x}.",
    "Write a short story about {x}.",
    "Make up a story about {x}.",
    "A story about {x}, please.",
    "Do you know a story about {x}?",
    "I want to hear a story about {x}.",
    "Tell me about {x}.",
    "{x}",
)
_OPEN_REQUESTS = (
    "Tell me a story.",
    "Please tell me a story.",
    "Can you tell me a story?",
    "I want a story!",
    "Tell me a bedtime story.",
    "Story, please.",
    "Another story, please.",
    "Make up a story.",
    "Write a story.",
    "Do you know a story?",
    "Tell me something.",
    "I am bored.",
    "I cannot sleep.",
)
_LEADS = ("", "", "", "", "Of course! ", "Here is a story. ", "Gladly. ", "Yes, listen. ")


def _subject(tale: Tale, rng: random.Random) -> str:
    """What the user asks for, so that the tale is truly about it."""
    hero, plot = tale.hero, tale.plot
    noun = f"{hero.small} {hero.kind}".strip()
    named = f"{{a}} named {hero.name}" if hero.name else "{a}"
    who = rng.choice(
        (
            f"a {hero.kind}",
            f"a {noun}",
            f"a {hero.trait} {hero.kind}",
            named.format(a=f"a {noun}"),
            named.format(a=f"a {hero.kind}"),
        )
    )
    choice = rng.random()
    if choice < 0.4:
        return who
    if choice < 0.65:
        return f"{who} who wants {tale.slots['want']}"
    if choice < 0.75:
        return f"{who} {tale.place.where}"
    if choice < 0.85:
        return plot.about
    return f"{who} and {plot.about}" if plot.about.startswith("a ") else who


def _request(tale: Tale, rng: random.Random) -> str:
    if rng.random() < 0.12:
        return rng.choice(_OPEN_REQUESTS)
    return tale.say(rng.choice(_REQUESTS).replace("{x}", _subject(tale, rng)), rng)


def _ordered(tale: Tale, rng: random.Random) -> list[Message]:
    """The user asks for a story, the model tells it."""
    request = _request(tale, rng)
    named = tale.hero.trait in request
    return _turn(request, rng.choice(_LEADS) + tell(tale, rng, trait=named))


def question(tale: Tale, rng: random.Random) -> tuple[str, str]:
    """A question about the tale and its right answer."""
    plot, hero = tale.plot, tale.hero
    truth = plot.key.startswith("truth")
    choices: list[tuple[str, str]] = [
        (
            "Who helped {hero}?|Who helped {him}?|Who was the helper in the story?",
            "{Helper} helped {him}.|{Helper} helped {hero}.|It was {helper}.|{Helper} did.",
        ),
        ("How did {helper} help?|What did {helper} do?|How was the problem solved?", plot.solve),
        (
            "What did {hero} want?|What did {hero} want to do?|What was {his} wish?",
            "{Hero} wanted {want}.|{He} wanted {want}.",
        ),
        (
            "Where did {hero} live?|Where does the story happen?|Where was {hero}?",
            "{Hero} lived {place}.|{He} lived {place}.|The story happens {place}.",
        ),
        (
            "What was the problem?|What went wrong?|What happened?|Why was {hero} not happy?",
            "{Trouble}.|The problem was that {trouble}.",
        ),
        (
            "How did {hero} feel at the end?|How did {he} feel in the end?",
            "At the end, {hero} was {glad}.|{He} was {glad} in the end.|{Hero} was {glad}.",
        ),
        ("How did the story end?|How does it end?|What happened in the end?", plot.result),
        (
            "Who is the story about?|Who was the hero of the story?|Who is it about?",
            f"It is about {'a ' + hero.kind + ' named {hero}' if hero.name else 'a ' + (hero.small + ' ' + hero.kind).strip()}.",
        ),
    ]
    if hero.name:
        choices.append(
            (
                f"What was the name of the {hero.kind}?|What was {{his}} name?|What was the {hero.kind} called?",
                "{His} name was {hero}.|{Hero}.|The name was {hero}.",
            )
        )
    if plot.key.startswith("friend"):
        choices[1] = (choices[1][0], "{Helper} became {his} friend. They went to {game}.")
    if truth:
        choices[4] = ("What went wrong?|What happened?", "{Trouble}.")
        choices[1] = ("What did {helper} do?|How did {helper} help?", plot.solve.split(". ", 1)[1])
    ask, answer = rng.choice(choices)
    return tale.say(rng.choice(ask.split("|")), rng), tale.say(rng.choice(answer.split("|")), rng)


def _about_text(tale: Tale, rng: random.Random) -> list[Message]:
    """The user gives a short story and a question."""
    text = tell(tale, rng, brief=True)
    ask, answer = question(tale, rng)
    form = rng.choice(
        (
            "{text}\n\n{ask}",
            "{text}\n\n{ask}",
            "{text} {ask}",
            "Read this story: {text}\n\n{ask}",
            "Here is a story. {text}\n\n{ask}",
            "{ask}\n\n{text}",
            "Story: {text}\nQuestion: {ask}",
        )
    )
    messages = _turn(form.format(text=text, ask=ask), answer)
    if rng.random() < 0.35:
        more = question(tale, rng)
        if more[0] != ask:
            messages += _turn(*more)
    return messages


def _told(tale: Tale, rng: random.Random) -> list[Message]:
    """The user asks for a story and perhaps asks something about it."""
    messages = _ordered(tale, rng)
    asked: set[str] = set()
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        ask, answer = question(tale, rng)
        if ask not in asked:
            asked.add(ask)
            messages += _turn(ask, answer)
    if len(messages) < 6 and rng.random() < 0.15:
        messages += _turn(*_small(rng, _THANKS))
    return messages


_GREET = (
    (
        "[Hello|Hi|Hey|Good morning|Good evening|Hello there|Hi there|Good day][!|.|]",
        "[Hello|Hi|Hello there]! [Would you like a story?|Shall I tell you a story?|What story would you like to hear?|I can tell you a story if you like.]",
    ),
    (
        "[Hello|Hi|Hey][,|!] [how are you?|how are you today?]",
        "[I am fine, thank you|Very well, thank you|I am well]. [Would you like a story?|Shall I tell you a story?]",
    ),
    (
        "[My name is|I am|Hi, I am|Hello, my name is] {name}[.|!]",
        "[Hello|Hi|Nice to meet you], {name}! [Would you like a story?|Shall I tell you a story?|What story would you like to hear?]",
    ),
)
_WHO = (
    (
        "[Who are you?|What are you?|Hello, who are you?|Tell me about yourself.|What is your name?|Are you a robot?|Are you a person?|Introduce yourself.]",
        "I am a small story model. I can tell you stories and answer questions about them.",
    ),
    (
        "[What can you do?|How can you help me?|What do you know?|What are you good at?|Can you help me?|Help]",
        "I can tell you [short|little] stories and answer questions about them. [Would you like one?|Shall I tell you one?|Just ask me for a story.]",
    ),
)
_THANKS = (
    (
        "[Thank you|Thanks|Thank you very much|Thanks a lot|Thank you, that was nice][!|.]",
        "[You are welcome|I am glad you liked it|It was a pleasure][!|.] [|Would you like another story?]",
    ),
    (
        "[That was a nice story|I liked that|What a lovely story|That was great|Good story|Nice][!|.]",
        "[Thank you|I am glad you liked it|Thank you, that makes me happy][!|.] [|Would you like another one?]",
    ),
)
_BYE = (
    (
        "[Goodbye|Bye|Bye bye|See you|Good night|I have to go now|See you tomorrow|I am going to bed][!|.]",
        "[Goodbye|Bye|Sleep well|See you soon|Good night][!|.] [|Come back soon for a new story.|Sweet dreams!]",
    ),
)
_OFF_TOPIC = (
    "[What is|How much is|Can you calculate] [two|three|seven|twelve|25|100] [plus|times|minus] [two|four|five|nine|12]?",
    "[What is the capital of|Where is|Tell me about the history of|Who is the president of] [France|Germany|Spain|Italy|Japan|China|India|Brazil|Canada|Egypt|Peru].",
    "[Write|Can you write|Help me write] [a program|some code|a function|a script] in [Python|Java|C|Rust|JavaScript].",
    "[What is the weather|Will it rain|How warm is it] [today|tomorrow|in Paris|in London]?",
    "[Translate|Can you translate] [this|the word tree|the word house|good morning] into [French|German|Spanish|Italian].",
    "[What time is it?|What day is it today?|What year is it?|What is the news today?]",
    "[Who won|What was the score of] the [game|match|race|election] [yesterday|last year|last night]?",
    "[How do I|How can I|Explain how to] [fix my car|lose weight|make money|install Linux|cook rice|learn to drive|buy a house|open a bank account]?",
    "[What is|Explain|Tell me about] [gravity|physics|a computer|electricity|the internet|quantum mechanics|chemistry|a black hole|machine learning|a neural network|photosynthesis].",
    "[Who was|Who is|Tell me about] [Einstein|Shakespeare|Napoleon|Mozart|Newton|Caesar|Darwin].",
    "[Write|Draft] [an email|a letter|a report|an essay|a poem|a speech|my homework] [for me|to my boss|about work|about history].",
    "Which [phone|car|stock|movie|job|computer|medicine] [should I choose|is best for me|do you like]?",
    "[Solve|Help me with] [this equation|my math homework|a puzzle|my taxes|my exam|this problem].",
    "[Play some music|Call my mother|Turn on the light|Set an alarm|Open the door|Order a pizza|Search the web][.|!]",
)
_REFUSE = (
    "I only know stories. Would you like one?",
    "I am sorry, I only know stories. Would you like one?",
    "I do not know that. I only know stories. Shall I tell you one?",
    "I am only a small story model, so I cannot help with that. But I can tell you a story.",
    "That is too hard for me. I only know stories. Would you like one?",
)
_YES = (
    "Yes, please.",
    "Yes!",
    "Yes, please tell me one.",
    "Okay.",
    "Sure.",
    "Yes, tell me a story.",
    "Please do.",
)
_NAMES = words("Lily Tom Anna Ben Mia Sam Nora Leo Ruby Max Ella Jack Zoe Paul Kate Simon")


def _small(rng: random.Random, table: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    ask, answer = rng.choice(table)
    slots = {"name": rng.choice(_NAMES)}
    return sentence(ask, slots, rng), sentence(answer, slots, rng)


def _refusal(rng: random.Random) -> tuple[str, str]:
    ask = sentence(_OFF_TOPIC, {}, rng)
    if ask.endswith(".") and ask.split()[0] in (
        "What",
        "Where",
        "Who",
        "How",
        "Can",
        "Will",
        "Which",
    ):
        ask = ask[:-1] + "?"
    if ask.endswith("?") and ask.startswith("Explain"):
        ask = ask[:-1] + "."
    return ask, rng.choice(_REFUSE)


def _small_talk(rng: random.Random) -> list[Message]:
    kind = rng.random()
    if kind < 0.45:
        messages = _turn(*_refusal(rng))
    elif kind < 0.65:
        messages = _turn(*_small(rng, _WHO))
    elif kind < 0.85:
        messages = _turn(*_small(rng, _GREET))
    else:
        return _turn(*_small(rng, _BYE if rng.random() < 0.5 else _THANKS))
    if rng.random() < 0.15:
        messages += _turn(*_small(rng, _BYE))
    return messages


def talk(rng: random.Random) -> tuple[list[Message], Tale | None]:
    """A conversation and the tale it is about, if any."""
    kind = rng.random()
    if kind < 0.16:
        messages = _small_talk(rng)
        invited = messages[-1]["content"].rstrip().endswith(("one?", "story?", "hear?"))
        if len(messages) == 2 and invited and rng.random() < 0.3:
            tale = simulate(rng)
            if "What story" in messages[-1]["content"] or rng.random() < 0.4:
                return messages + _ordered(tale, rng), tale
            return messages + _turn(rng.choice(_YES), rng.choice(_LEADS) + tell(tale, rng)), tale
        return messages, None
    tale = simulate(rng)
    return (_told if kind < 0.62 else _about_text)(tale, rng), tale


def held_out_talk(messages: list[Message], tale: Tale | None) -> bool:
    """Whether the conversation is kept for evaluation; small talk is divided by its text."""
    if tale is not None:
        return tale.held_out
    text = "|".join(message["content"] for message in messages)
    return zlib.crc32(text.encode()) % 25 == 0
