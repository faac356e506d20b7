"""Models and streams as C programs hold them: ids, lifetimes, settings."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import bitnet
from bitnet.embed.errors import UnknownModelError
from bitnet.embed.host import Host
from bitnet.embed.models import metrics_of
from bitnet.embed.requests import Cancellation, Request
from bitnet.embed.settings import load_settings, quantization_type
from bitnet.embed.streams import StreamSettings
from bitnet.embed.table import Table, unknown_id
from bitnet.engine import Timings
from bitnet.program.topology import available_cores
from tests.tiny_model import CONTEXT, HIDDEN, TEXT

DEFAULTS = {  # BITNET_CONFIG_INIT
    "model_format": 0,
    "vocab_size": 32000,
    "hidden_size": 4096,
    "num_layers": 32,
    "num_heads": 32,
    "intermediate_size": 11008,
    "max_position_embeddings": 2048,
    "quantization_type": 0,
    "num_threads": 0,
    "batch_size": 1,
    "memory_limit": 0,
}
CORES = available_cores()
GREEDY: Any = {"max_new_tokens": 10, "temperature": 0}
PIECES = StreamSettings(None, None, tokens_per_piece=1, max_ahead=64, timeout=None)


def config(**changes: int) -> Any:
    return SimpleNamespace(**DEFAULTS | changes)


def ask(prompt: str = "Say", cancellation: int | None = None, **options: Any) -> Request:
    return Request(prompt, None, None, GREEDY | options, cancellation)


def test_ids_count_up_and_are_never_used_again() -> None:
    table: Table[str] = Table(unknown_id("Thing"))
    assert [table.add("a"), table.add("b")] == [0, 1]
    assert table.remove(1) == "b"
    assert table.add("c") == 2
    assert (1 in table, 2 in table, table.all()) == (False, True, {0: "a", 2: "c"})
    with pytest.raises(bitnet.InvalidArgumentError, match="Thing ID 1 not found"):
        table.get(1)
    table._next_id = 2**31
    with pytest.raises(bitnet.BitNetError, match="used up"):
        table.add("d")


def test_a_failed_load_spends_no_id(host: Host, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(bitnet.ModelNotFoundError, match="Model file not found: /no/such"):
        host.load("/no/such", None)
    with pytest.raises(bitnet.InvalidModelError):
        host.load(str(tmp_path), None)
    assert host.load(str(tiny_model), None) == 0


def test_the_published_defaults_expect_nothing(tiny_model: Path) -> None:
    settings = load_settings(str(tiny_model), config())
    assert (settings.threads, settings.context, settings.max_requests) == (None, None, None)
    assert settings.memory_limit is None
    zeros: Any = SimpleNamespace(**dict.fromkeys(DEFAULTS, 0))
    assert load_settings(str(tiny_model), zeros) == settings


def test_settings_that_are_given_are_passed_on(host: Host, tiny_model: Path) -> None:
    given = config(
        hidden_size=HIDDEN, num_threads=3, batch_size=2, max_position_embeddings=40, memory_limit=10
    )
    settings = load_settings(str(tiny_model), given)
    assert (settings.threads, settings.context, settings.max_requests) == (3, 40, 2)
    with pytest.raises(bitnet.ModelMemoryError, match="of a limit of 10"):
        host.load(str(tiny_model), given)
    given.memory_limit, given.batch_size = 10**9, 4000
    model = host.models.get(host.load(str(tiny_model), given)).model
    assert (model.threads, model.context) == (min(3, CORES), 40)
    assert load_settings(str(tiny_model), given).max_requests == 128


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"hidden_size": 5}, f"has hidden_size {HIDDEN}, not 5 as expected"),
        ({"num_layers": 7}, "has num_layers 1, not 7"),
        ({"model_format": 1}, "is gguf, not safetensors as model_format says"),
        ({"model_format": 2}, "is gguf, not huggingface as model_format says"),
        ({"quantization_type": 1}, "holds I2_S, not TL1 as quantization_type says"),
        ({"max_position_embeddings": CONTEXT + 1}, f"was made for {CONTEXT} positions, fewer"),
    ],
)
def test_a_file_that_is_not_what_is_expected_is_refused(
    tiny_model: Path, changes: dict[str, int], rule: str
) -> None:
    with pytest.raises(bitnet.InvalidModelError, match=rule):
        load_settings(str(tiny_model), config(**changes))


def test_quantization_types_have_numbers() -> None:
    types = ({"I2_S"}, {"TL1"}, {"TL2"}, {"TL1", "F16"}, {"b3"})
    assert [quantization_type(frozenset(t)) for t in types] == [0, 1, 2, 0, 0]


def test_a_freed_model_lives_until_its_streams_have_ended(host: Host, tiny_model: Path) -> None:
    model_id = host.load(str(tiny_model), None)
    model = host.models.get(model_id).model
    ended, stopped = (host.start_stream(model_id, ask(), PIECES) for _ in range(2))
    assert host.streams.get(ended).read(100)
    host.free(model_id)
    for use in (host.free, host.models.get, lambda i: host.generate(i, "Say", GREEDY)):
        with pytest.raises(UnknownModelError, match="Model ID 0 not found"):
            use(model_id)
    assert host.memory.used > 0
    text = "".join(iter(lambda: host.streams.get(ended).read(100).decode(), ""))
    assert text == (TEXT * 2)[len(" été") :]
    assert host.memory.used > 0
    host.streams.remove(stopped).stop()
    assert host.memory.used == 0
    with pytest.raises(bitnet.ModelClosedError):
        model.generate("Say")
    assert host.streams.get(ended).read(100) == b""


def test_small_buffers_lose_no_text(host: Host, tiny_model: Path) -> None:
    model_id = host.load(str(tiny_model), None)
    stream = host.streams.get(host.start_stream(model_id, ask(), PIECES))
    with pytest.raises(bitnet.InvalidArgumentError, match="max_len 1 is too small"):
        stream.read(1)
    pieces = []
    while piece := stream.read(6):
        pieces.append(piece.decode())
        assert len(piece) < 6
    assert "".join(pieces) == TEXT * 2


def test_pieces_have_the_tokens_that_are_asked_for(host: Host, tiny_model: Path) -> None:
    model_id = host.load(str(tiny_model), None)
    three = StreamSettings(None, None, tokens_per_piece=3, max_ahead=None, timeout=1)
    stream = host.streams.get(host.start_stream(model_id, ask(), three))
    pieces = list(iter(lambda: stream.read(100).decode(), ""))
    assert pieces[0] == " été 10€ 世界"
    assert ("".join(pieces), len(pieces)) == (TEXT * 2, 4)


def test_tokens_and_pieces_may_be_read_in_turn(host: Host, tiny_model: Path) -> None:
    model_id = host.load(str(tiny_model), None)
    stream = host.streams.get(host.start_stream(model_id, ask(), PIECES))
    with pytest.raises(bitnet.InvalidArgumentError, match="the token's text needs 7"):
        stream.read_token(6)
    assert stream.read(4) == " ét".encode()[:3]
    rest = stream.read_token(7)
    assert rest is not None
    assert (rest.id, rest.text) == (None, "té")
    token = stream.read_token(100)
    assert token is not None
    assert (token.id, token.text) == (257, " 10€")


def test_stopping_wakes_a_reader(
    host: Host, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id = host.load(str(tiny_model), None)
    stepper = host.models.get(model_id).model._engine._stepper
    step, entered, go = stepper.step, threading.Event(), threading.Event()

    def slow(chunks: Any) -> Any:
        entered.set()
        assert go.wait(10)
        return step(chunks)

    monkeypatch.setattr(stepper, "step", slow)
    stepping = host.start_stream(model_id, ask(), PIECES)
    waiting = host.start_stream(model_id, ask(), PIECES)
    readers, got = [], []
    for stream_id in (stepping, waiting):
        stream = host.streams.get(stream_id)
        readers.append(threading.Thread(target=lambda s=stream: got.append(s.read(100))))
        readers[-1].start()
        assert entered.wait(10)
    host.streams.remove(waiting).stop()
    readers[1].join(10)
    assert got == [b""]
    host.streams.remove(stepping).stop()
    go.set()
    readers[0].join(10)
    assert got == [b"", b""]


def test_a_stream_that_takes_too_long_goes_on_with_the_next_read(
    host: Host, tiny_model: Path
) -> None:
    model_id = host.load(str(tiny_model), None)
    hasty = StreamSettings(None, None, tokens_per_piece=5, max_ahead=None, timeout=1e-9)
    stream = host.streams.get(host.start_stream(model_id, ask(), hasty))
    timeouts, text = 0, ""
    while True:
        try:
            piece = stream.read(100).decode()
        except bitnet.GenerationTimeoutError as error:
            assert str(error) == "no token within 0 ms"  # noqa: PT017
            timeouts += 1
            host.generate(model_id, "Say", GREEDY | {"max_new_tokens": 1})
            continue
        if not piece:
            break
        text += piece
    assert timeouts > 0
    assert text == TEXT * 2


def test_cleanup_stops_streams_and_keeps_models(host: Host, tiny_model: Path) -> None:
    model_id = host.load(str(tiny_model), None)
    loaded = host.memory.used
    stream_id = host.start_stream(model_id, ask(), PIECES)
    host.streams.get(stream_id).read(100)
    assert host.memory.used > loaded
    host.cleanup()
    assert host.memory.used == loaded
    with pytest.raises(bitnet.InvalidArgumentError, match=f"Stream ID {stream_id} not found"):
        host.streams.get(stream_id)
    assert host.generate(model_id, "Say", GREEDY) == TEXT * 2


def test_a_cancelled_request_keeps_what_it_had(host: Host, tiny_model: Path) -> None:
    model_id = host.load(str(tiny_model), None)
    handle = host.cancellations.add(Cancellation())
    stream = host.streams.get(host.start_stream(model_id, ask(cancellation=handle), PIECES))
    assert stream.read(100).decode() == " été"
    host.cancellations.get(handle).cancel()
    assert stream.read(100) == b""
    result = host.results.get(host.generate_result(model_id, ask(cancellation=handle)))
    assert (result.completion.finish_reason, result.completion.text) == ("cancelled", "")
    with pytest.raises(bitnet.InvalidArgumentError, match="Cancellation ID 7 not found"):
        host.generate_result(model_id, ask(cancellation=7))
    with pytest.raises(bitnet.InvalidArgumentError, match="Cancellation ID 7 not found"):
        host.start_stream(model_id, ask(cancellation=7), PIECES)
    host.free(model_id)
    assert host.memory.used == 0


def test_a_stream_that_cannot_start_lets_its_model_go(host: Host, tiny_model: Path) -> None:
    model_id = host.load(str(tiny_model), None)
    with pytest.raises(bitnet.ContextLengthExceededError):
        host.start_stream(model_id, ask("x" * 100), PIECES)
    host.free(model_id)
    assert host.memory.used == 0


def test_threads_are_set_for_models_without_their_own(host: Host, tiny_model: Path) -> None:
    own = host.models.get(host.load(str(tiny_model), config(num_threads=1))).model
    before = host.models.get(host.load(str(tiny_model), None)).model
    host.set_threads(1000)
    after = host.models.get(host.load(str(tiny_model), None)).model
    assert (own.threads, before.threads, after.threads) == (1, CORES, CORES)


def test_metrics_of_a_batch_are_those_of_the_whole() -> None:
    metrics = metrics_of([Timings(3, 5, 0.5, 2.0, 1.0), Timings(4, 3, 0.5, 1.0, 3.0)])
    assert metrics is not None
    assert (metrics.total_s, metrics.first_token_s) == (4.0, 1.0)
    assert (metrics.tokens, metrics.prompt_tokens) == (8, 7)
    assert (metrics.between_tokens_s, metrics.tokens_per_s) == (0.5, 2.0)
    assert metrics_of([Timings(3, 0, 0.0, 0.0, 0.0)]) is None


def test_an_unknown_model_fails_each_prompt_of_a_batch(host: Host) -> None:
    outcomes = host.generate_batch(3, ["a", "b"], GREEDY)
    assert [str(outcome) for outcome in outcomes] == ["Model ID 3 not found"] * 2
