"""JSON that is ambiguous, endless or no JSON is refused before it takes time or memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from bitnet.errors import InvalidModelError
from bitnet.strict_json import MAX_VALUES, parse, parse_object

FIXED_BYTES = 1 << 27


def test_values_come_as_they_are() -> None:
    assert parse(b' {"a": [1, -2.5e3, true, null, "\\u00e9\\ud83d\\ude42"]} ') == {
        "a": [1, -2500.0, True, None, "é🙂"]
    }


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b"", "Expecting value"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"\xff", "can't decode"),
        (b"{}{}", "Extra data"),
        (b'{"a":1,"a":1}', "key 'a' appears twice"),
        (b'{"a":[{"b":1,"c":2,"b":3}]}', "key 'b' appears twice"),
        (b"[NaN]", "NaN is not a number"),
        (b"[-Infinity]", "-Infinity is not a number"),
        (b"1" * 5000, "digits"),
        (b'"\\ud800"', "surrogates not allowed"),
        (b'{"\\udc00": 1}', "surrogates not allowed"),
        (b'["\\ud83d", "\\ude42"]', "surrogates not allowed"),
        (b"[" * 33 + b"]" * 33, "more than 32 levels"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "more than 32 levels"),
        (b"[" * 100_000, "more than 32 levels"),
        (b'{"a":' * 100_000, "more than 32 levels"),
        (b"[" + b"0," * MAX_VALUES + b"0]", "more than about 524288 values"),
        (b"[" + b"[]," * (MAX_VALUES // 2) + b"0]", "more than about 524288 values"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_what_breaks_a_rule_is_refused(raw: bytes, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        parse(raw)


def test_an_object_s_errors_name_the_file() -> None:
    for raw, rule in ((b"[]", "is not a JSON object"), (b"{", "is not valid JSON")):
        with pytest.raises(InvalidModelError, match=rf"m\.json: the config {rule}"):
            parse_object(Path("m.json"), raw, "the config")


def test_a_quoted_key_is_cut_and_printable() -> None:
    key = b'"\\u001b' + b"a" * 100_000 + b'"'
    with pytest.raises(InvalidModelError, match="characters") as caught:
        parse_object("m.json", b"{%b:1,%b:1}" % (key, key), "the config")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    ("item", "fill"),
    [
        (b"[],", 2),
        (b"{},", 2),
        (b"300,", 1),
        (b"1e1,", 1),
        (b'"ab",', 1),
        (b'{"ab":{}},', 3),
        (b"[" * 31 + b"]" * 31 + b",", 32),
    ],
    ids=lambda value: str(value)[:12],
)
def test_the_worst_values_take_ten_times_their_text_and_a_fixed_amount(
    item: bytes, fill: int
) -> None:
    raw = b"[" + item * ((MAX_VALUES - 4) // fill) + b"0]"
    tracemalloc.start()
    try:
        parse(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 10 * len(raw) + FIXED_BYTES
