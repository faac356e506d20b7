"""Chat templates by name, for models whose files carry none, or the wrong one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from bitnet.errors import InvalidArgumentError

MAX_SOURCE_CHARS = 1 << 16


@dataclass(frozen=True, slots=True)
class Template:
    """Jinja source, and strings that end an answer besides the model's own end tokens."""

    source: str
    stop: tuple[str, ...] = ()
    path: str | os.PathLike[str] | None = None
    """The file it came from, unless that is the model."""


_BITNET = (
    "{% for message in messages %}"
    "{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
_INSTRUCT = (
    "{% for message in messages %}"
    "{{ {'system': 'System', 'user': 'Q'}.get(message['role'], 'A')"
    " + ': ' + message['content'] | trim }}"
    "{{ '\n' if message['role'] == 'user' else '\n\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'A:' }}{% endif %}"
)
_LLAMA3 = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)
_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_FALCON3 = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% if message['role'] != 'assistant' or not loop.last %}{{ '\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}"
    "{% set system = messages[0]['content'] + '\n\n' if messages[0]['role'] == 'system' else '' %}"
    "{% for message in (messages[1:] if system else messages) %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role'])"
    " + '\n' + (system if loop.first else '') + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

TEMPLATES: Mapping[str, Template] = {
    # The text as it is, for models that only continue texts.
    "raw": Template("{% for message in messages %}{{ message['content'] }}{% endfor %}"),
    # Questions and answers, which such models continue most often.
    "instruct": Template(_INSTRUCT, stop=("\n\nQ:", "\n\nHuman:")),
    # The form BitNet b1.58 2B-4T was trained on: "User: text<|eot_id|>Assistant: ".
    "bitnet": Template(_BITNET, stop=("<|eot_id|>",)),
    "llama3-chat": Template(_LLAMA3, stop=("<|eot_id|>", "<|end_of_text|>")),
    "chatml": Template(_CHATML, stop=("<|im_end|>",)),
    "falcon3": Template(_FALCON3, stop=("<|user|>",)),
    "gemma": Template(_GEMMA, stop=("<end_of_turn>",)),
}


def choose_template(choice: str | os.PathLike[str], own: Mapping[str, str]) -> Template | None:
    """The template that `choice` means.

    choice: "auto", the model's default one, None if it has none; else the name of one of `own`,
        those in the model's files, or of TEMPLATES; else a file of Jinja source.

    Raises InvalidArgumentError if it is none of these.
    """
    if choice == "auto":
        return Template(own["default"]) if "default" in own else None
    if isinstance(choice, str) and choice in own:
        return Template(own[choice])
    if isinstance(choice, str) and choice in TEMPLATES:
        return TEMPLATES[choice]
    if not os.path.isfile(choice):
        names = ", ".join(["auto", *map(repr, own), *TEMPLATES])
        raise InvalidArgumentError(
            f"chat template {os.fspath(choice)!r} is neither a file nor one of {names}"
        )
    return Template(_read(choice), path=choice)


def _read(path: str | os.PathLike[str]) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(4 * MAX_SOURCE_CHARS + 1)
        if len(data) > 4 * MAX_SOURCE_CHARS:
            raise InvalidArgumentError(
                f"chat template {os.fspath(path)} has more than {4 * MAX_SOURCE_CHARS} bytes"
            )
        return data.decode()
    except OSError as error:
        raise InvalidArgumentError(f"cannot read {os.fspath(path)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"chat template {os.fspath(path)} is not UTF-8") from error
