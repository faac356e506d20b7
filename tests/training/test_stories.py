from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator

import pytest

from training.stories import conversation, documents, story
from training.stories.talk import question
from training.stories.telling import Tale, simulate, tell


def _tales(seed: int, count: int) -> Iterator[tuple[Tale, str]]:
    rng = random.Random(seed)
    for _ in range(count):
        tale = simulate(rng)
        yield tale, tell(tale, rng)


def _texts(seed: int, count: int) -> Iterator[str]:
    for document in documents(seed, count):
        if isinstance(document, str):
            yield document
        else:
            yield from (message["content"] for message in document)


def test_the_same_seed_gives_the_same_documents() -> None:
    assert list(documents(3, 50)) == list(documents(3, 50))
    assert list(documents(3, 50)) != list(documents(4, 50))


def test_more_documents_begin_with_the_same_ones() -> None:
    assert list(itertools.islice(documents(3, 100), 20)) == list(documents(3, 20))


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split"):
        next(documents(1, 1, split="dev"))


def test_held_out_documents_never_appear_in_training() -> None:
    train = {str(document) for document in documents(5, 3000)}
    held_out = {str(document) for document in documents(5, 300, split="heldout")}
    assert not train & held_out


def test_both_splits_mix_stories_and_conversations() -> None:
    for split in ("train", "heldout"):
        stories = sum(isinstance(document, str) for document in documents(1, 500, split))
        assert 300 < stories < 400


def test_articles_agree_with_the_next_word() -> None:
    for text in _texts(7, 2000):
        assert not re.search(r"\b[Aa] [aeioAEIO](?!ne\b)", text), text
        assert not re.search(r"\b[Aa]n [^aeiouhAEIOUH]", text), text


def test_texts_are_cleanly_written() -> None:
    for text in _texts(8, 2000):
        assert text.isascii()
        assert not re.search(r"  | \n|\n | [.,!?]|[{}\[\]|]|\.\.|,\.", text), text
        assert text.count('"') % 2 == 0, text
        assert not re.search(r"(?:^|[.!?] |\n)[a-z]", text), text


def test_stories_have_a_good_length_and_end_properly() -> None:
    lengths = []
    for _, text in _tales(9, 1000):
        assert text[-1] in '.!"', text
        lengths.append(len(text.split()))
    assert min(lengths) >= 70
    assert max(lengths) <= 250
    assert 120 <= sum(lengths) / len(lengths) <= 180


def test_a_hero_and_helper_of_one_sex_share_their_pronouns() -> None:
    words = {"he": {"he", "him", "his"}, "she": {"she", "her"}}
    seen = 0
    for tale, text in _tales(10, 2000):
        mine, theirs = tale.hero.pronouns["he"], tale.plot.helper.pronouns["he"]
        if mine != theirs or "mother" in text or "sister" in text or "duck" in text:
            continue
        other = words["she" if mine == "he" else "he"]
        assert not other & set(re.findall(r"[a-z]+", text.lower())), text
        seen += 1
    assert seen > 100


def test_hero_place_and_helper_are_in_the_story() -> None:
    for tale, text in _tales(11, 500):
        lower = text.lower()
        assert tale.hero.ref.lower() in lower
        assert tale.place.where.lower() in lower
        assert tale.slots["helper"].lower() in lower


def test_the_hero_cannot_do_what_the_helper_is_needed_for() -> None:
    for tale, _ in _tales(12, 1000):
        if "tree" in tale.plot.key.split("-")[1:]:
            assert not tale.hero.skills & {"fly", "climb"}


def test_answers_are_true_to_the_story() -> None:
    for tale, text in _tales(13, 1000):
        ask, answer = question(tale, random.Random(text))
        assert ask.endswith("?")
        if ask.startswith("Who helped"):
            assert tale.slots["helper"].lower() in answer.lower()
        elif "name" in ask or "called" in ask:
            assert tale.hero.name is not None
            assert tale.hero.name in answer
        elif ask.startswith("How did the story end"):
            assert answer in text.replace("\n\n", " ")


def test_conversations_alternate_and_end_with_the_assistant() -> None:
    rng = random.Random(14)
    for _ in range(500):
        messages = conversation(rng)
        assert 2 <= len(messages) <= 8
        roles = [message["role"] for message in messages]
        assert roles == ["user", "assistant"] * (len(messages) // 2)
        assert all(message["content"].strip() == message["content"] != "" for message in messages)


def test_openings_are_varied() -> None:
    rng = random.Random(15)
    starts = {" ".join(story(rng).split()[:2]) for _ in range(1000)}
    assert {
        "Once upon",
        "One day,",
        "There was",
        "In a",
        "Long ago,",
        "It was",
        "The little",
    } <= starts
