"""The functions of cabi/host.h that bitnet_ext.h needs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet.embed.ffi import Ffi, Lib, define, write_text
from bitnet.embed.host import Host
from bitnet.embed.requests import Cancellation, Request
from bitnet.embed.settings import InferenceConfig, options
from bitnet.embed.streams import StreamConfig, stream_settings
from bitnet.embed.text import INT_MAX, fitting, utf8
from bitnet.errors import ContextLengthExceededError, InvalidArgumentError
from bitnet.generation import Token

_ADD_BOS = 1
_PARSE_SPECIAL = 2
_SPELL_SPECIAL = 1
_FINISH_REASONS = ("stop", "length", "cancelled")


def attach_ext(ffi: Ffi, lib: Lib, host: Host) -> None:
    _attach_tokens(ffi, lib, host)
    _attach_results(ffi, lib, host)
    _attach_streams(ffi, lib, host)
    _attach_numbers(ffi, lib, host)


def request_of(ffi: Ffi, request: Any, config: InferenceConfig) -> Request:
    """A bitnet_ext_request_t, valid, as a `Request`."""
    settings = options(config)
    settings["min_p"] = request.min_p
    settings["stop"] = [ffi.string(request.stop[i]).decode() for i in range(request.n_stop)]
    settings["logprobs"] = request.logprobs
    messages = [
        {
            "role": ffi.string(request.messages[i].role).decode(),
            "content": ffi.string(request.messages[i].content).decode(),
        }
        for i in range(request.n_messages if request.messages else 0)
    ]
    return Request(
        prompt=ffi.string(request.prompt).decode() if request.prompt else None,
        messages=messages if request.messages else None,
        ids=ffi.unpack(request.ids, request.n_ids) if request.ids else None,
        options=settings,
        cancellation=request.cancellation if request.cancellation >= 0 else None,
    )


def fill_token(target: Any, token: Token) -> None:
    """A bitnet_ext_token_t, whose size is known to be right."""
    logprobs = token.logprobs
    target.id = -1 if token.id is None else token.id
    target.logprob = math.nan if logprobs is None else logprobs.logprob
    target.text_length = len(utf8(token.text))
    top = [] if logprobs is None else logprobs.top
    target.n_top = len(top)
    for i, (id, logprob) in enumerate(top):
        target.top[i].id, target.top[i].logprob = id, logprob


def checked_length(n: int, what: str) -> int:
    """A length that an int can tell."""
    if n > INT_MAX:
        raise InvalidArgumentError(f"{what} is too long")
    return n


def _attach_tokens(ffi: Ffi, lib: Lib, host: Host) -> None:
    def context_length(model_id: int) -> int:
        return host.models.get(model_id).model.context

    def tokenize(model_id: int, text: Any, flags: int, ids: Any, capacity: int) -> int:
        with host.models.get(model_id).run() as model:
            found = model.tokenizer.encode(
                ffi.string(text).decode(),
                add_bos=bool(flags & _ADD_BOS) and model.tokenizer.add_bos,
                parse_special=bool(flags & _PARSE_SPECIAL),
            )
        if capacity:
            written = np.array(found[:capacity], np.int32)
            ffi.memmove(ids, written.tobytes(), written.nbytes)
        return checked_length(len(found), "the text")

    def detokenize(model_id: int, ids: Any, n_ids: int, flags: int, text: Any, max_len: int) -> int:
        tokens = ffi.unpack(ids, checked_length(n_ids, "ids")) if n_ids else []
        with host.models.get(model_id).run() as model:
            data = utf8(model.tokenizer.decode(tokens, skip_special=not flags & _SPELL_SPECIAL))
        return give(data, text, max_len)

    def give(data: bytes, text: Any, max_len: int) -> int:
        if max_len:
            write_text(ffi, text, fitting(data, max_len))
        return checked_length(len(data), "the text")

    def result_text(result_id: int, text: Any, max_len: int) -> int:
        return give(utf8(host.results.get(result_id).completion.text), text, max_len)

    define(ffi, lib, (context_length, tokenize, detokenize, result_text))


def _attach_results(ffi: Ffi, lib: Lib, host: Host) -> None:
    def generate(model_id: int, request: Any, config: InferenceConfig) -> int:
        return host.generate_result(model_id, request_of(ffi, request, config))

    def result_get_info(result_id: int, info: Any) -> None:
        completion = host.results.get(result_id).completion
        timings = completion.timings
        info.finish_reason = _FINISH_REASONS.index(completion.finish_reason)
        info.prompt_tokens = timings.prompt_tokens
        info.tokens_generated = len(completion.token_ids)
        info.time_to_first_token_ms = timings.time_to_first_token_s * 1e3
        info.total_time_ms = (timings.time_to_first_token_s + timings.decode_s) * 1e3
        info.text_length = len(utf8(completion.text))

    def result_token(result_id: int, index: int, token: Any) -> None:
        tokens = host.results.get(result_id).tokens
        if index >= len(tokens):
            raise InvalidArgumentError(f"index must be less than {len(tokens)}, not {index}")
        fill_token(token, tokens[index])

    def result_free(result_id: int) -> None:
        host.results.remove(result_id)

    define(ffi, lib, (generate, result_get_info, result_token, result_free))


def _attach_streams(ffi: Ffi, lib: Lib, host: Host) -> None:
    def start_token_streaming(
        model_id: int, request: Any, config: InferenceConfig, stream_config: StreamConfig
    ) -> int:
        settings = stream_settings(stream_config)
        return host.start_stream(model_id, request_of(ffi, request, config), settings)

    def stream_next_token(stream_id: int, target: Any, text: Any, max_len: int) -> int:
        token = host.streams.get(stream_id).read_token(max_len)
        if token is None:
            return 0
        fill_token(target, token)
        write_text(ffi, text, utf8(token.text))
        return 1

    def cancellation_new() -> int:
        return host.cancellations.add(Cancellation())

    def cancel(cancellation_id: int) -> None:
        host.cancellations.get(cancellation_id).cancel()

    def cancellation_free(cancellation_id: int) -> None:
        host.cancellations.remove(cancellation_id)

    define(ffi, lib, (start_token_streaming, stream_next_token))
    define(ffi, lib, (cancellation_new, cancel, cancellation_free))


def _attach_numbers(ffi: Ffi, lib: Lib, host: Host) -> None:
    def read_ids(model_id: int, ids: Any, n_ids: int) -> Any:
        context = host.models.get(model_id).model.context
        if n_ids > context:  # before anything is made of them
            raise ContextLengthExceededError(
                f"{n_ids} tokens are more than the context of {context}"
            )
        return ffi.unpack(ids, n_ids)

    def give(rows: npt.NDArray[np.float32], target: Any, capacity: int) -> None:
        check(rows.size, capacity)
        ffi.memmove(target, np.ascontiguousarray(rows).data.cast("B"), rows.nbytes)

    def check(needed: int, capacity: int) -> None:
        if needed > capacity:
            raise InvalidArgumentError(f"capacity must be at least {needed} floats, not {capacity}")

    def logits(model_id: int, ids: Any, n_ids: int, target: Any, capacity: int) -> None:
        tokens = read_ids(model_id, ids, n_ids)
        check(n_ids * host.models.get(model_id).model.config.vocab_size, capacity)
        give(host.logits(model_id, tokens), target, capacity)

    def embeddings(
        model_id: int, ids: Any, n_ids: int, pooling: int, target: Any, capacity: int
    ) -> None:
        tokens = read_ids(model_id, ids, n_ids)
        rows = 1 if pooling else n_ids
        check(rows * host.models.get(model_id).model.config.hidden_size, capacity)
        give(host.embeddings(model_id, tokens, pooling), target, capacity)

    define(ffi, lib, (logits, embeddings))
