"""Chat templates render as in transformers, and cannot get at Python, the clock or the memory."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bitnet.errors import InvalidArgumentError, InvalidModelError
from bitnet.models.tokenizer_files import open_tokenizer
from bitnet.tokenizers import sandbox
from bitnet.tokenizers.chat_template import ChatTemplate

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Hi! "},
]

LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def render(source: str, messages: list[dict[str, str]] = CHAT, prompt: bool = True) -> str:
    return ChatTemplate("m.gguf", source).render(
        messages, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>"
    )


def test_a_published_template() -> None:
    assert render(LLAMA3) == (
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi!<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert render(LLAMA3, prompt=False).endswith("Hi!<|eot_id|>")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
        (
            (
                "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}"
                "{{ m.role }}{% endfor %}"
            ),
            "user",
        ),
        ("{{ messages | map(attribute='role') | join(', ') }}", "system, user"),
        ("{{ {'é': [1, none]} | tojson }}", '{"é": [1, null]}'),
        ("{{ messages[1:][0].content.strip() ~ 1 }}", "Hi!1"),
        (
            (
                "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
                "{% endfor %}{{ ns.n }}"
            ),
            "2",
        ),
        ("{% macro say(x) %}[{{ x }}]{% endmacro %}{{ say(eos_token) }}", "[</s>]"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("{{ 'a-b'.split('-') | last | upper }}", "B"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
        ("{{ 'aXb'.replace('X', '') }}{{ 'aXb' | replace('X', '+') }}", "aba+b"),
        ("{{ ','.join(['1', '2']) }}", "1,2"),
        ("{{ tools is defined }}", "False"),
    ],
)
def test_what_templates_use(source: str, text: str) -> None:
    assert render(source) == text


def test_raise_exception_is_about_the_messages() -> None:
    with pytest.raises(InvalidArgumentError, match="refuses these messages: roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__'] }}",
        "{{ messages | attr('append') }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ raise_exception.__globals__ }}",
        "{{ self._TemplateReference__context.environment }}",
        "{{ namespace.__init__.__globals__['os'] }}",
        "{{ cycler.__init__ }}",
        "{{ lipsum(n=1000000) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    ],
)
def test_python_is_out_of_reach(source: str) -> None:
    messages = [dict(message) for message in CHAT]
    text = ""
    with suppress(InvalidModelError):
        text = render(source, messages)
    assert text == ""  # what the sandbox does not let through is an error or undefined
    assert messages == CHAT


DOUBLE = 40
CHAIN = (
    "{{% set ns = namespace(x=['a']) %}}{{% for i in range(20000) %}}"
    "{{% set ns.x = {} %}}{{% endfor %}}"
)
GROW = (
    "{{% set ns = namespace(x={{}}, y={{}}) %}}{{% for i in range(40) %}}"
    "{{% set ns.y = ns.x %}}{{% set ns.x = {} %}}{{% endfor %}}"
)

BOMBS = [
    "{{ 'x' * 1000000000000 }}",
    "{{ 1000000000000 * 'x' }}",
    "{{ [0] * 1000000000000 }}",
    "{{ 9 ** 999999999999 }}",
    "{% set x = 10 ** 60 %}" + "{% set x = x * x %}" * 60 + "{{ x > 1 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ 'x'.center(10000000000) }}",
    "{{ 'x'.ljust(10000000000) }}",
    "{{ 'x' | center(10000000000) }}",
    "{{ 'x' | indent(10000000000) }}",
    "{{ [1] | batch(10000000000, 0) | list }}",
    "{{ [1] | tojson(indent=10000000000) }}",
    "{{ range(10000000000) | list }}",
    "{{ '{:>9999999999}'.format(1) }}",
    "{% set x = 'a' %}" + "{% set x = x ~ x %}" * DOUBLE,
    "{% set x = 'a' %}" + "{% set x = x + x %}" * DOUBLE,
    "{% set x = ['a'] %}" + "{% set x = x + x %}" * DOUBLE,
    "{% set x = 'a' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * DOUBLE,
    "{% set x = 'a' %}" + "{% set x = [x, x] | join %}" * DOUBLE,
    "{% set x = ['a'] %}" + "{% set x = [x, x] %}" * DOUBLE + "{{ x }}",
    "{% set x = ['a'] %}" + "{% set x = [x, x] %}" * DOUBLE + "{{ x | tojson }}",
    "{% set x = ['a'] %}" + "{% set x = [x, x] %}" * DOUBLE + "{{ x | string | length }}",
    "{% set x = 'a' * 1000 %}" + "{% set x = x.replace('', x) %}" * 4,
    "{% set x = 'a' * 1000 %}" + "{% set x = x | replace('', x) %}" * 4,
    "{% set x = 'a' * 1000000 %}{{ ([x] * 100000) | map('upper') | list | length }}",
    "{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{% set y = x[1:] %}{% endfor %}",
    "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
    "{{ " + "(" * 10000 + "1" + ")" * 10000 + " }}",
    "{% for a in [1] %}" * 40 + "{% endfor %}" * 40,
    "x" * (1 << 18),
    "{{ (1).to_bytes(1000000000, 'big') | length }}",
    "{{ 1 | round(1000000000, 'ceil') }}",
    "{{ 5 | round(-1000000000) }}",
    "{{ ('f' * 1000000) | int(0, 16) // 3 }}",
    "{{ [('f' * 1000000) | int(0, 16)] | map('round', 1, 'ceil') | list }}",
    "{{ ('a' * 1000000) | trim('b' * 1000000 ~ 'a') }}",
    "{{ ('a' * 1000000).strip('b' * 1000000 ~ 'a') }}",
    "{{ ('a' * 1000000).rfind('ab' ~ 'a' * 500000) }}",
    "{{ ('a' * 1000000).rsplit('ab' ~ 'a' * 500000) }}",
    "{{ (('<!---->' * 100000) | safe).striptags() + 1 }}",
    "{{ range(60000) | list | tojson(separators=('x' * 1000000, ':')) }}",
    "{{ range(60000) | sort(attribute=',' * 1000000) | length }}",
    "{{ range(60000) | map(attribute='x', default='x' * 1000000) | sort | length }}",
    "{% set s = 'a' * 1000000 %}{{ (s ~ 'b') in [s ~ 'c'] * 1000000 }}",
    GROW.format("[ns.x, ns.x]") + "{{ ns.x == ns.y }}",
    GROW.format("(ns.x, ns.x)") + "{{ {ns.x: 1} }}",
    GROW.format("[ns.x, ns.x]") + "{{ ns.x | upper | length }}",
    GROW.format("[ns.x.values(), 1] and {'a': ns.x.values(), 'b': ns.x.values()}") + "{{ ns.x }}",
    GROW.format("namespace(a=ns.x, b=ns.x)") + "{{ ns.x }}",
    GROW.format("namespace(a=ns.x, b=ns.x)") + "{{ ns.x | lower }}",
    GROW.format("namespace(a=ns.x, b=ns.x)") + "{{ raise_exception(ns.x) }}",
    GROW.format("namespace(a=ns.x, b=ns.x)") + "{{ {}[ns.x] + 1 }}",
    GROW.format("namespace(a=ns.x, b=ns.x)") + "{{ [].index(ns.x) }}",
    "{% macro m() %}{% set ns.x = varargs %}{% endmacro %}"
    + GROW.format("ns.x")
    + "{% for i in range(40) %}{{ m(ns.x, ns.x) }}{% endfor %}{{ ns.x }}",
    CHAIN.format("(ns.x,)") + "{{ {ns.x: 1} }}",
    CHAIN.format("ns.x | map('upper')") + "{{ ns.x | list }}",
    "{% set x = [[1]] %}" + "{% set x = [x] %}" * 50 + "{{ (x * 2000) | tojson(indent=16) }}",
]


@pytest.mark.parametrize("source", BOMBS, ids=lambda source: source[-40:])
def test_little_templates_cannot_build_much(source: str) -> None:
    start = time.thread_time()
    with pytest.raises(InvalidModelError, match="chat template"):
        render(source)
    assert time.thread_time() - start < 1.5


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set r = range(99999) %}{% for a in r %}{% for b in r if 0 %}{% endfor %}{% endfor %}",
        "{% set l = range(60000) | list %}{{ range(99999) | select('in', l) | list | length }}",
        "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    ],
)
def test_templates_cannot_run_long(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.1)
    start = time.thread_time()
    with pytest.raises(InvalidModelError, match="takes longer than"):
        render(source)
    assert time.thread_time() - start < 1.0


@pytest.mark.parametrize("source", ["{% if %}", "{{ x.y.z }}", "{{ 1 / 0 }}", "{% generation %}"])
def test_broken_templates_are_named(source: str) -> None:
    with pytest.raises(InvalidModelError, match=r"m\.gguf: chat template fails"):
        render(source)


@pytest.mark.parametrize(
    "messages",
    [[], [{"role": "user"}], [{"content": "x"}], [{"role": "user", "content": 1}], ["hello"]],
)
def test_messages_must_have_role_and_content(messages: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="message"):
        render(LLAMA3, messages)


def test_long_messages_are_rendered_and_endless_ones_refused() -> None:
    text = "x" * (sandbox.MAX_VALUE_CHARS - 100)
    assert len(render(LLAMA3, [{"role": "user", "content": text}])) > len(text)
    with pytest.raises(InvalidArgumentError, match="messages of 2097152 characters"):
        render(LLAMA3, [{"role": "user", "content": "x" * (1 << 20)}] * 2)


BITNET = "System: Be brief.<|eot_id|>User: Hi!<|eot_id|>Assistant: "
PLACEHOLDER = (
    "{% for message in messages %}{{ 'Human: ' + message['content'] + '\n\nBITNETAssistant: ' }}"
    "{% endfor %}"
)


@pytest.mark.parametrize("template", [None, PLACEHOLDER])
def test_bitnet_without_a_template_of_its_own_uses_the_form_it_was_trained_on(
    llama3_metadata: dict[str, Any], from_metadata: Any, template: str | None
) -> None:
    values = dict(llama3_metadata)
    if template:
        values["tokenizer.chat_template"] = template
    text = from_metadata(values, "bitnet-b1.58").apply_chat_template(CHAT)
    assert text == f"<|begin_of_text|>{BITNET}"


def test_a_template_in_the_file_is_used(llama3_metadata: Any, from_metadata: Any) -> None:
    values = {**llama3_metadata, "tokenizer.chat_template": "{{ bos_token }}{{ eos_token }}"}
    for architecture in ("bitnet-b1.58", "llama"):
        text = from_metadata(values, architecture).apply_chat_template(CHAT)
        assert text == "<|begin_of_text|><|end_of_text|>"


def test_a_model_without_template_says_so(llama3_metadata: Any, from_metadata: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"m\.gguf: the model has no chat template"):
        from_metadata(llama3_metadata).apply_chat_template(CHAT)


def test_an_encoded_chat_starts_with_one_begin_token(
    llama3_metadata: Any, from_metadata: Any
) -> None:
    tokenizer = from_metadata(llama3_metadata, "bitnet-b1.58")
    ids = tokenizer.encode_chat(CHAT)
    assert ids.count(tokenizer.bos_id) == 1
    assert ids[0] == tokenizer.bos_id
    assert tokenizer.decode(ids) == BITNET.replace("<|eot_id|>", "")
    plain = {**llama3_metadata, "tokenizer.chat_template": "{{ messages[0].content }}"}
    assert from_metadata(plain).encode_chat(CHAT)[0] == tokenizer.bos_id


@pytest.mark.parametrize("where", ["jinja", "config", "named"])
def test_hugging_face_folders_keep_the_template_in_three_places(
    byte_level: Any, tmp_path: Path, where: str
) -> None:
    (tmp_path / "tokenizer.json").write_bytes((byte_level.folder / "tokenizer.json").read_bytes())
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    template: Any = {"jinja": "no", "config": "yes", "named": named}[where]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    if where == "jinja":
        (tmp_path / "chat_template.jinja").write_text("yes")
    assert open_tokenizer(tmp_path, "llama").apply_chat_template(CHAT) == "yes"
