"""Chat templates: Jinja source from a model file, so untrusted, rendered in a sandbox.

jinja2's immutable sandbox keeps templates away from Python. What is added here are limits on time
and memory: every way for a template to loop or to build something large is refused, counted or
bounded. The result is what transformers renders, for the templates that models come with.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn, TypeVar

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.filters import FILTERS
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from bitnet.errors import InvalidArgumentError, InvalidModelError
from bitnet.tokenizers.templates import MAX_SOURCE_CHARS

_T = TypeVar("_T")

MAX_VALUE_CHARS = 1 << 20
MAX_TOTAL_CHARS = 1 << 24
_ITEM_CHARS = 8  # an item of a list takes as much as this many characters
MAX_INTEGER_BITS = 1 << 10
MAX_SECONDS = 2.0

# Filters and methods that cannot make much out of little. Those that pad or format to a width
# given as a number are not among them.
_FILTERS = frozenset(
    {"abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float"}
    | {"int", "items", "last", "length", "list", "lower", "map", "max", "min", "reject"}
    | {"rejectattr", "reverse", "round", "safe", "select", "selectattr", "sort", "title", "trim"}
    | {"unique", "upper"}
)
_REFUSED_METHODS = frozenset(
    {"center", "encode", "expandtabs", "format", "format_map", "ljust", "maketrans", "rjust"}
    | {"translate", "zfill"}
)


class ChatTemplate:
    """A compiled chat template; `path` is where it came from, for messages."""

    def __init__(self, path: str | os.PathLike[str], source: str) -> None:
        if len(source) > MAX_SOURCE_CHARS:
            raise InvalidModelError(
                path,
                f"chat template of {len(source)} characters exceeds {MAX_SOURCE_CHARS}",
            )
        self._path = path
        self._environment = _Environment()
        try:
            self._environment.restart()
            tree = _BoundLoops().visit(self._environment.parse(source))
            self._template = self._environment.from_string(tree)
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
        except _RefusedMessagesError as error:
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


class _RefusedMessagesError(TemplateError):
    """The template called raise_exception."""


def _raise_exception(message: object = "no reason given") -> NoReturn:
    raise _RefusedMessagesError(str(message)[:500])


class _BoundLoops(NodeTransformer):
    """Make each turn of a loop look at the clock, and ``~`` and slices at what they build."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("tick", [], node), lineno=node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        return _call("concatenate", node.nodes, node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        self.generic_visit(node)
        return _call("spend", [node], node) if isinstance(node.arg, nodes.Slice) else node


def _call(name: str, arguments: list[nodes.Expr], node: nodes.Node) -> nodes.Call:
    function = nodes.EnvironmentAttribute(name, lineno=node.lineno)
    return nodes.Call(function, arguments, [], None, None, lineno=node.lineno)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["*", "**", "+", "%"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols],
            finalize=self.bounded,
        )
        self.filters = {name: self._spending(FILTERS[name]) for name in _FILTERS} | {
            "join": lambda values, separator="": self.join(separator, values),
            "replace": self.replace,
            "string": self.text,
            "tojson": self.to_json,
        }
        self.globals = {
            "range": self.globals["range"],
            "namespace": Namespace,
            "dict": dict,
            "raise_exception": _raise_exception,
            "strftime_now": lambda form: (
                datetime.now().astimezone().strftime(self.text(form)[:100])
            ),
        }
        self._clock = threading.local()
        # Joins the output of macros, blocks and {% set %}...{% endset %}.
        self.concat = lambda pieces: self.join("", pieces)  # type: ignore[method-assign]

    def restart(self) -> None:
        """Start one rendering in this thread, with all its time and size to spend."""
        self._clock.end = time.thread_time() + MAX_SECONDS
        self._clock.left = MAX_TOTAL_CHARS

    def tick(self) -> None:
        if time.thread_time() > self._clock.end:
            raise SecurityError(f"it takes longer than {MAX_SECONDS:g} seconds")

    def spend(self, value: _T) -> _T:
        """Return `value`, having counted what it takes to the size of everything built."""
        self.tick()
        if isinstance(value, str):
            self._clock.left -= len(value)
        elif isinstance(value, (list, tuple, dict, set)):
            self._clock.left -= len(value) * _ITEM_CHARS
        if self._clock.left < 0:
            raise SecurityError(f"it builds more than {MAX_TOTAL_CHARS} characters or items")
        return value

    def _spending(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)  # also keeps jinja2's marks on it
        def spending(*args: Any, **kwargs: Any) -> Any:
            return self.spend(function(*args, **kwargs))

        return spending

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.tick()
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str) and name == "join":
            return self.join(owner, *args, **kwargs)
        if isinstance(owner, str) and name == "replace":
            return self.replace(owner, *args, **kwargs)
        return self.spend(super().call(context, obj, *args, **kwargs))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in _REFUSED_METHODS and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        return None  # str.format is refused like other methods, instead of wrapped

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        for value in (left, right):
            if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
                raise SecurityError(f"an integer has more than {MAX_INTEGER_BITS} bits")
        if operator == "%" and isinstance(left, str):
            raise SecurityError("text formatting with % is not allowed")
        if operator == "**" and abs(right) > 64:
            raise SecurityError(f"the exponent {right} exceeds 64")
        if operator == "*":
            for value, times in ((left, right), (right, left)):
                if isinstance(value, (str, list, tuple)):
                    _check_size(len(value) * max(times, 0))
        if operator == "+" and isinstance(left, (str, list, tuple)):
            _check_size(len(left) + len(right))
        return self.spend(super().call_binop(context, operator, left, right))

    def bounded(self, value: Any) -> Any:
        """Return `value` if its text has a sane size: lists in lists grow fast."""
        stack, size = [value], 0
        while stack:
            item = stack.pop()
            size += len(item) if isinstance(item, str) else 16
            _check_size(size)
            if isinstance(item, Mapping):
                stack += [*item.keys(), *item.values()]
            elif isinstance(item, (list, tuple, set, frozenset)):
                stack += item
        return value

    def text(self, value: Any) -> str:
        text = self.bounded(value)
        return text if isinstance(text, str) else self.spend(str(text))

    def concatenate(self, *values: Any) -> str:
        return self.join("", values)

    def join(self, separator: Any, values: Iterable[Any]) -> str:
        between = self.text(separator)
        texts: list[str] = []
        size = 0
        for value in values:
            texts.append(self.text(value))
            size += len(texts[-1]) + len(between)
            _check_size(size)
        return self.spend(between.join(texts))

    def replace(self, value: Any, old: Any, new: Any, count: int | None = None) -> str:
        text, before, after = self.text(value), self.text(old), self.text(new)
        _check_size(len(text) + text.count(before) * len(after))
        return self.spend(text.replace(before, after, -1 if count is None else count))

    def to_json(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        if indent is not None and not 0 <= indent <= 16:
            raise SecurityError(f"tojson indents by 0 to 16, not {indent}")
        if isinstance(value, Undefined):
            raise SecurityError("tojson of something undefined")
        text = json.dumps(
            self.bounded(value),
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )
        return self.spend(text)


def _check_size(size: int) -> None:
    if size > MAX_VALUE_CHARS:
        raise SecurityError(f"it builds a value of more than {MAX_VALUE_CHARS} characters or items")
