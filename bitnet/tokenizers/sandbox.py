"""Where chat templates run: jinja2's immutable sandbox, which keeps them away from Python.

What is added here are limits on time and memory. Whatever a template builds is counted, and no
value of it is larger or deeper than a bound, so that each single step, such as a comparison, is
short; between steps the clock is looked at. Steps that could take more than their values are
large are bounded on their own, or refused.
"""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    ValuesView,
)
from datetime import datetime
from typing import Any, NoReturn, TypeVar

from jinja2 import Template, TemplateError
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.filters import FILTERS
from jinja2.runtime import Context, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from bitnet.tokenizers.sandbox_nodes import BoundSteps

_T = TypeVar("_T")

MAX_VALUE_CHARS = 1 << 20
MAX_TOTAL_CHARS = 1 << 24
MAX_DEPTH = 64
_ITEM_CHARS = 8  # an item of a list takes as much as this many characters
MAX_INTEGER_BITS = 1 << 10
MAX_ARGUMENT_CHARS = 256
MAX_COMPARISONS = 1 << 26  # of characters, in one search
MAX_SECONDS = 2.0

# Filters that cannot make much out of little. Those that pad or format to a width given as a
# number are not among them. The first ones make text of any value.
_TEXT_FILTERS = frozenset({"capitalize", "e", "escape", "lower", "safe", "title", "trim", "upper"})
_FILTERS = frozenset(
    {"abs", "count", "d", "default", "dictsort", "first", "float", "int", "items", "last"}
    | {"length", "list", "map", "max", "min", "reject", "rejectattr", "reverse", "select"}
    | {"selectattr", "sort", "unique"}
)
# Methods of texts, numbers, lists and mappings, likewise.
_METHODS = frozenset(
    {"capitalize", "casefold", "copy", "count", "endswith", "find", "get", "index", "isalnum"}
    | {"isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric"}
    | {"isprintable", "isspace", "istitle", "isupper", "items", "join", "keys", "lower", "lstrip"}
    | {"partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition"}
    | {"rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title"}
    | {"upper", "values"}
)
_PLAIN = (str, bytes, int, float, complex, list, tuple, set, frozenset, Mapping, range)
_CONTAINERS = (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)


class RefusedMessagesError(TemplateError):
    """The template called raise_exception."""


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of a template; its limits are for one rendering in one thread."""

    intercepted_binops = frozenset(["*", "**", "+", "-", "/", "//", "%"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols],
            finalize=self.bounded,
        )
        self.filters = {
            **{name: self._counted(FILTERS[name]) for name in _FILTERS},
            **{name: self._counted(self._of_text(FILTERS[name])) for name in _TEXT_FILTERS},
            "join": lambda values, separator="": self.join(separator, values),
            "replace": self.replace,
            "round": self.round,
            "string": self.text,
            "tojson": self.to_json,
        }
        self.tests = {name: self._ticking(test) for name, test in self.tests.items()}
        self.globals = {
            "range": self.globals["range"],
            "namespace": Namespace,
            "dict": dict,
            "raise_exception": self._raise_exception,
            "strftime_now": lambda form: (
                datetime.now().astimezone().strftime(self.text(form)[:100])
            ),
        }
        self._clock = threading.local()
        # Joins the output of macros, blocks and {% set %}...{% endset %}.
        self.concat = lambda pieces: self.join("", pieces)  # type: ignore[method-assign]

    def compile_source(self, source: str) -> Template:
        """Return the template of Jinja source."""
        self.restart()
        return self.from_string(BoundSteps().visit(self.parse(source)))

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
        elif isinstance(value, int):
            _check_integer(value)
        if self._clock.left < 0:
            raise SecurityError(f"it builds more than {MAX_TOTAL_CHARS} characters or items")
        return value

    def built(self, value: _T) -> _T:
        """Return `value`, which the template has just made of others, counted and bounded."""
        return self.spend(self.bounded(value))

    def bounded(self, value: _T, indent: int = 0) -> _T:
        """Return `value` if it has a sane depth, and size when written out.

        Lists in lists grow fast. indent: characters in front of an item for each level.
        """
        if isinstance(value, str):
            _check_size(len(value))
            return value
        level: list[Any] = [value]
        size = 0
        for depth in range(MAX_DEPTH):
            inner: list[Any] = []
            for item in level:
                size += len(item) if isinstance(item, str) else _ITEM_CHARS
                size += indent * depth
                inner += _items(item)
                _check_size(size + len(inner) * _ITEM_CHARS)
            if not inner:
                return value
            level = inner
        raise SecurityError(f"it builds a value of more than {MAX_DEPTH} levels")

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)  # also keeps jinja2's marks on it
        def counted(*args: Any, **kwargs: Any) -> Any:
            if function not in (FILTERS["default"], FILTERS["d"]):
                _check_arguments(args, kwargs)
            result = function(*args, **kwargs)
            return _Lazy(self, result) if isinstance(result, Iterator) else self.built(result)

        return counted

    def _of_text(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def of_text(value: Any, *args: Any, **kwargs: Any) -> Any:
            return function(self.text(value), *args, **kwargs)

        return of_text

    def _ticking(self, test: Any) -> Callable[..., Any]:
        @functools.wraps(test)
        def ticking(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            return test(*args, **kwargs)

        return ticking

    def _raise_exception(self, message: object = "no reason given") -> NoReturn:
        raise RefusedMessagesError(self.text(message)[:500])

    def getitem(self, obj: Any, argument: Any) -> Any:
        self.bounded(argument)  # an error may write it out
        return super().getitem(obj, argument)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.tick()
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str):
            if name == "join":
                return self.join(owner, *args, **kwargs)
            if name == "replace":
                return self.replace(owner, *args, **kwargs)
            _check_search(owner, (*args, *kwargs.values()))
        elif isinstance(obj, Macro):
            if obj.catch_varargs:
                self.bounded(args[len(obj.arguments) :])
            if obj.catch_kwargs:
                self.bounded(kwargs)
        else:
            for value in args:
                if isinstance(value, Namespace):
                    self.bounded(value)
        return self.built(super().call(context, obj, *args, **kwargs))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, _PLAIN) and callable(value) and attr not in _METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        return None  # str.format is refused like other methods, instead of wrapped

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        for value in (left, right):
            if isinstance(value, int):
                _check_integer(value)
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
        return self.built(super().call_binop(context, operator, left, right))

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

    def round(self, value: Any, precision: int = 0, method: str = "common") -> Any:
        if not -64 <= precision <= 64:
            raise SecurityError(f"round is to -64 to 64 places, not {precision}")
        _check_integer(value)
        return FILTERS["round"](value, precision, method)

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
        _check_arguments(separators or ())
        text = json.dumps(
            self.bounded(value, indent or 0),
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )
        return self.spend(text)


class _Lazy:
    """What a filter gives bit by bit: each item is counted as it comes."""

    def __init__(self, environment: Sandbox, items: Iterator[Any]) -> None:
        self._environment = environment
        self._items = items

    def __iter__(self) -> _Lazy:
        return self

    def __next__(self) -> Any:
        return self._environment.built(next(self._items))


def _items(value: Any) -> Iterable[Any]:
    """What is in a value, and written out with it."""
    if isinstance(value, Mapping):
        return (*value.keys(), *value.values())
    if isinstance(value, Namespace):
        return tuple(object.__getattribute__(value, "_Namespace__attrs").values())
    if isinstance(value, _CONTAINERS):
        return value
    return ()


def _check_size(size: int) -> None:
    if size > MAX_VALUE_CHARS:
        raise SecurityError(f"it builds a value of more than {MAX_VALUE_CHARS} characters or items")


def _check_integer(value: Any) -> None:
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        raise SecurityError(f"an integer has more than {MAX_INTEGER_BITS} bits")


def _check_arguments(args: Iterable[Any], kwargs: Mapping[str, Any] = {}) -> None:
    """Refuse long texts behind the first argument: names, characters, separators."""
    for value in (*tuple(args)[1:], *kwargs.values()):
        if isinstance(value, str) and len(value) > MAX_ARGUMENT_CHARS:
            raise SecurityError(f"an argument has more than {MAX_ARGUMENT_CHARS} characters")


def _check_search(text: str, args: Iterable[Any]) -> None:
    """Some methods compare each character of the text with each of an argument."""
    for value in args:
        if isinstance(value, str) and len(text) * len(value) > MAX_COMPARISONS:
            raise SecurityError("it searches a long text for another long one")
