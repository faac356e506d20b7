"""What models are called, and what is refused as a name."""

from __future__ import annotations

import pytest

from bitnet import InvalidArgumentError
from bitnet.store import ModelName, parse_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("model", ModelName("model")),
        ("some/model-1.58b_x", ModelName("some/model-1.58b_x")),
        ("some/model@v1.0", ModelName("some/model", "v1.0")),
        ("some/model@refs/pr/1", ModelName("some/model", "refs/pr/1")),
        ("some/model:a/b.gguf", ModelName("some/model", None, "a/b.gguf")),
        ("some/model@main:b c.gguf", ModelName("some/model", "main", "b c.gguf")),
    ],
)
def test_names_are_read_and_written(text: str, name: ModelName) -> None:
    assert parse_name(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/model",
        "some/",
        "a/b/c",
        "../model",
        "some/..",
        "some/.model",
        "some/model.",
        "some/mo--del",
        "some/mo..del",
        "some/model.git",
        "x" * 97,
        "some/model@",
        "some/model@../x",
        "some/model@/x",
        "some/model@a//b",
        "some/model@a..b",
        "some/model@main.lock",
        "some/model:",
        "some/model:/a.gguf",
        "some/model:../a.gguf",
        "some/model:a/./b.gguf",
        "some/model:a//b.gguf",
        "some/model:a\\b.gguf",
        "some/model:c:b.gguf",
        "some/model:a\n.gguf",
        "some/model:*.gguf",
        "some/model:" + "x" * 201,
        "söme/model",
    ],
)
def test_what_could_lead_elsewhere_is_no_name(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_name(text)
