"""Chat templates: Jinja source from a model file, so untrusted, rendered in a sandbox.

What a template may do is in `sandbox`. The result is what transformers renders, for the templates
that models come with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from bitnet.errors import InvalidArgumentError, InvalidModelError
from bitnet.tokenizers.sandbox import MAX_VALUE_CHARS, RefusedMessagesError, Sandbox
from bitnet.tokenizers.templates import MAX_SOURCE_CHARS


class ChatTemplate:
    """A compiled chat template; `path` is where it came from, for messages."""

    def __init__(self, path: str | os.PathLike[str], source: str) -> None:
        if len(source) > MAX_SOURCE_CHARS:
            raise InvalidModelError(
                path,
                f"chat template of {len(source)} characters exceeds {MAX_SOURCE_CHARS}",
            )
        self._path = path
        self._environment = Sandbox()
        try:
            self._template = self._environment.compile_source(source)
        except Exception as error:  # whatever jinja2 or the Python compiler make of hostile text
            raise self._failure(error) from error

    def render(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        add_generation_prompt: bool,
        bos_token: str,
        eos_token: str,
    ) -> str:
        """Return the text for `messages`; see `Tokenizer.apply_chat_template`."""
        variables = {
            "messages": _checked(messages),
            "add_generation_prompt": add_generation_prompt,
            "bos_token": bos_token,
            "eos_token": eos_token,
        }
        try:
            self._environment.restart()
            return "".join(map(self._environment.spend, self._template.generate(variables)))
        except RefusedMessagesError as error:
            raise InvalidArgumentError(
                f"the chat template refuses these messages: {error}"
            ) from error
        except Exception as error:  # a template can run into any of Python's exceptions
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> InvalidModelError:
        reason = str(error)[:200] or type(error).__name__
        return InvalidModelError(self._path, f"chat template fails: {reason}")


def _checked(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    if not messages:
        raise InvalidArgumentError("messages must not be empty")
    for index, message in enumerate(messages):
        for key in ("role", "content"):
            if not isinstance(message, Mapping) or not isinstance(message.get(key), str):
                raise InvalidArgumentError(f"message {index} must have a text under {key!r}")
    total = sum(len(message["content"]) for message in messages)
    if total > MAX_VALUE_CHARS:
        raise InvalidArgumentError(
            f"messages of {total} characters together exceed the limit of {MAX_VALUE_CHARS}"
        )
    return [dict(message) for message in messages]
