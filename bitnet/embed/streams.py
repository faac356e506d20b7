"""Streams: a generation handed out in pieces, to whichever thread asks, and ended by any."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from bitnet.embed.models import LoadedModel
from bitnet.embed.text import fitting, utf8
from bitnet.errors import GenerationTimeoutError, InvalidArgumentError
from bitnet.generation import Generation, Token

_BUFFER_SIZE = 64  # of BITNET_STREAM_CONFIG_INIT


class StreamConfig(Protocol):
    """bitnet_stream_config_t; see bitnet.h."""

    callback: object
    user_data: object
    buffer_size: int
    yield_interval: int
    enable_backpressure: int
    timeout_ms: int


@dataclass(frozen=True)
class StreamSettings:
    """timeout: seconds that a read waits. callback, user_data: not used here, but kept."""

    callback: object
    user_data: object
    tokens_per_piece: int
    max_ahead: int | None
    timeout: float | None


def stream_settings(config: StreamConfig) -> StreamSettings:
    per_piece = config.yield_interval or 1
    buffered = (config.buffer_size or _BUFFER_SIZE) * per_piece
    return StreamSettings(
        callback=config.callback,
        user_data=config.user_data,
        tokens_per_piece=per_piece,
        max_ahead=buffered if config.enable_backpressure else None,
        timeout=config.timeout_ms / 1000 or None,
    )


class Stream:
    """A generation that one thread at a time reads. It holds its model until it has ended."""

    def __init__(
        self, generation: Generation, settings: StreamSettings, loaded: LoadedModel
    ) -> None:
        self.settings = settings
        self._running: tuple[Generation, LoadedModel] | None = (generation, loaded)
        self._ending = threading.Lock()  # guards _running
        self._stopped = False
        self._reading = threading.Lock()  # guards what follows
        self._text = ""  # has come and is not yet a piece
        self._tokens = 0  # that it came from
        self._piece = b""  # what is left of a piece
        self._held: Token | None = None  # did not fit the reader's buffer

    def read(self, size: int) -> bytes:
        """The next piece, or as much of it as fits `size` bytes with a NUL; b"" at the end.

        Raises GenerationTimeoutError, after which nothing is lost; InvalidArgumentError when no
        character fits; what `Generation.next_token` raises.
        """
        with self._turn() as deadline:
            if not self._piece:
                self._gather(deadline)
            if self._stopped or not self._piece:
                return b""
            data = fitting(self._piece, size)
            if not data:
                raise InvalidArgumentError(f"max_len {size} is too small for the next character")
            self._piece = self._piece[len(data) :]
            return data

    def read_token(self, size: int) -> Token | None:
        """The next token, whose text fits `size` bytes with a NUL; None at the end. As `read`."""
        with self._turn() as deadline:
            token = self._take_text() or self._next(deadline)
            if self._stopped or token is None:
                return None
            needed = len(utf8(token.text)) + 1
            if needed > size:
                self._held = token
                raise InvalidArgumentError(
                    f"max_len {size} is too small: the token's text needs {needed}"
                )
            return token

    def stop(self) -> None:
        """End the generation. Does not wait for a reader, who gets nothing more."""
        self._stopped = True
        running = self._running
        if running is not None:
            running[0].close()
            self._let_go()

    @contextmanager
    def _turn(self) -> Iterator[float | None]:
        """The right to read, and the time when waiting must end."""
        timeout = self.settings.timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._reading.acquire(timeout=-1 if timeout is None else timeout):
            raise GenerationTimeoutError("another thread is reading this stream")
        try:
            yield deadline
        except GenerationTimeoutError as error:
            milliseconds = round((timeout or 0) * 1000)
            raise GenerationTimeoutError(f"no token within {milliseconds} ms") from error
        finally:
            self._reading.release()

    def _gather(self, deadline: float | None) -> None:
        """Take tokens until there is a piece, or the stream ends."""
        while self._tokens < self.settings.tokens_per_piece or not self._text:
            token = self._next(deadline)
            if token is None:
                break
            self._text += token.text
            self._tokens += 1
        self._piece = utf8(self._text)
        self._text, self._tokens = "", 0

    def _take_text(self) -> Token | None:
        """What is left of pieces, for a reader of tokens."""
        text = self._piece.decode() + self._text
        self._piece, self._text, self._tokens = b"", "", 0
        return Token(None, text, None) if text else None

    def _next(self, deadline: float | None) -> Token | None:
        if self._held is not None:
            token, self._held = self._held, None
            return token
        running = self._running
        if running is None:
            return None
        left = None if deadline is None else deadline - time.monotonic()
        try:
            following = running[0].next_token(left)
        except GenerationTimeoutError:
            raise
        except BaseException:
            self._let_go()
            raise
        if following is None:
            self._let_go()
        return following

    def _let_go(self) -> None:
        """Of the generation and its model, once: their memory must not wait for `stop`."""
        with self._ending:
            running, self._running = self._running, None
        if running is not None:
            generation, loaded = running
            loaded.record([generation.timings])
            loaded.end_run()
