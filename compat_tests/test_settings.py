"""Threads, GPU, memory, backends and measurements."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compat_tests import binding as b
from compat_tests.binding import Library


@pytest.fixture(autouse=True)
def _as_before(bn: Library) -> Iterator[None]:
    """Settings belong to the whole process; other tests want theirs back."""
    threads = bn.bitnet_get_num_threads()
    yield
    bn.bitnet_set_num_threads(threads)
    bn.bitnet_set_memory_limit(0)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_thread_count_is_remembered(bn: Library, n: int) -> None:
    assert bn.bitnet_set_num_threads(n) == 0
    assert bn.bitnet_get_num_threads() == n


def test_zero_threads_are_refused_and_change_nothing(bn: Library) -> None:
    assert bn.bitnet_set_num_threads(2) == 0
    assert bn.refused(bn.bitnet_set_num_threads(0), b.THREAD_SAFETY)
    assert "num_threads must be greater than 0" in (bn.last_error() or "")
    assert bn.bitnet_get_num_threads() == 2


def test_any_thread_count_gives_the_same_text(bn: Library, model: int) -> None:
    plain = bn.infer(model, "Once upon a time", b.greedy(12))
    for n in (1, 2, 3):
        assert bn.bitnet_set_num_threads(n) == 0
        assert bn.infer(model, "Once upon a time", b.greedy(12)) == plain


def test_gpu_is_probed(bn: Library) -> None:
    available = bn.bitnet_is_gpu_available()
    assert available in (0, 1)
    assert bn.bitnet_set_gpu_enabled(0) == 0
    code = bn.bitnet_set_gpu_enabled(1)
    assert code == (0 if available else b.UNSUPPORTED_OPERATION)


def test_backend_is_checked_then_the_model(bn: Library, model: int) -> None:
    rule = "backend_preference must be 0 (auto), 1 (cpu), or 2 (gpu)"
    assert bn.refused(bn.bitnet_switch_model_backend(b.NO_ID, 3), b.INVALID_ARGUMENT, rule)
    assert bn.refused(bn.bitnet_switch_model_backend(b.NO_ID, 0), b.INVALID_MODEL_ID)
    assert [bn.bitnet_switch_model_backend(model, to) for to in (1, 0)] == [0, 0]
    if not bn.bitnet_is_gpu_available():
        code = bn.bitnet_switch_model_backend(model, 2)
        assert bn.refused(code, b.UNSUPPORTED_OPERATION, "GPU not available")
    assert bn.infer(model, "Once", b.greedy(1)) != ""


# -- measurements ---------------------------------------------------------------------------------


def measured(bn: Library, model: int) -> b.Metrics:
    metrics = b.Metrics()
    assert bn.bitnet_get_performance_metrics(model, metrics) == 0, bn.last_error()
    return metrics


def is_zero(metrics: b.Metrics) -> bool:
    return (
        metrics.tokens_generated == metrics.prompt_tokens == 0
        and metrics.tokens_per_second == metrics.latency_ms == 0
        and metrics.total_inference_time_ms == metrics.time_to_first_token_ms == 0
    )


def test_measurements_need_a_place_and_a_model(bn: Library) -> None:
    code = bn.bitnet_get_performance_metrics(b.NO_ID, None)
    assert bn.refused(code, b.INVALID_ARGUMENT, "metrics cannot be null")
    for code in (
        bn.bitnet_get_performance_metrics(b.NO_ID, b.Metrics()),
        bn.bitnet_reset_performance_metrics(b.NO_ID),
    ):
        assert bn.refused(code, b.INVALID_MODEL_ID, f"Model ID {b.NO_ID} not found")


def test_measurements_are_zero_before_the_first_run_and_after_a_reset(
    bn: Library, model: int
) -> None:
    assert is_zero(measured(bn, model))
    bn.infer(model, "Once upon a time", b.greedy(8))
    assert not is_zero(measured(bn, model))
    assert bn.bitnet_reset_performance_metrics(model) == 0
    assert is_zero(measured(bn, model))


def test_measurements_are_those_of_the_last_run(bn: Library, model: int) -> None:
    bn.infer(model, "Once upon a time", b.greedy(12))
    first = measured(bn, model)
    assert first.tokens_generated == 12
    assert first.prompt_tokens > 0
    assert first.tokens_per_second > 0
    assert first.latency_ms > 0
    assert 0 < first.time_to_first_token_ms <= first.total_inference_time_ms
    assert first.memory_usage_mb > 0
    if not bn.bitnet_is_gpu_available():
        assert first.gpu_utilization == -1
    bn.infer(model, "Once upon a time there was a dog", b.greedy(3))
    second = measured(bn, model)
    assert second.tokens_generated == 3
    assert second.prompt_tokens > first.prompt_tokens


# -- memory ---------------------------------------------------------------------------------------


def test_usage_counts_models(bn: Library, model: int) -> None:
    before = bn.bitnet_get_memory_usage()
    assert before > 0
    info = b.ModelInfo()
    assert bn.bitnet_model_get_info(model, info) == 0
    assert before >= info.memory_usage


def test_usage_falls_when_a_model_is_freed(bn: Library, tiny_model: object) -> None:
    before = bn.bitnet_get_memory_usage()
    model = bn.load(tiny_model)  # type: ignore[arg-type]
    assert bn.bitnet_get_memory_usage() > before
    assert bn.bitnet_model_free(model) == 0
    assert bn.bitnet_get_memory_usage() == before


@pytest.mark.parametrize("limit", [0, 2**40, 2**64 - 1])
def test_limits_that_are_no_limits_are_accepted(bn: Library, model: int, limit: int) -> None:
    assert bn.bitnet_set_memory_limit(limit) == 0
    assert bn.infer(model, "Once", b.greedy(1)) != ""


def test_limit_stops_a_load_and_nothing_else(bn: Library, story_model: object) -> None:
    path = str(story_model).encode()
    before = bn.bitnet_get_memory_usage()
    assert bn.bitnet_set_memory_limit(before + 1000) == 0
    assert bn.refused(bn.bitnet_model_load(path), b.OUT_OF_MEMORY)
    assert bn.bitnet_get_memory_usage() == before
    assert bn.bitnet_set_memory_limit(0) == 0
    model = bn.bitnet_model_load(path)
    assert model >= 0, bn.last_error()
    assert bn.bitnet_model_free(model) == 0


def test_limit_of_a_config_is_the_model_s_own(bn: Library, story_model: object) -> None:
    path = str(story_model).encode()
    code = bn.bitnet_model_load_with_config(path, b.config(memory_limit=1000))
    assert bn.refused(code, b.OUT_OF_MEMORY)
    model = bn.bitnet_model_load_with_config(path, b.config(memory_limit=2**40))
    assert model >= 0, bn.last_error()
    assert bn.bitnet_model_free(model) == 0


def test_garbage_can_be_collected_at_any_time(bn: Library, model: int) -> None:
    assert bn.bitnet_garbage_collect() == 0
    text = bn.infer(model, "Once upon a time", b.greedy(8))
    assert bn.bitnet_garbage_collect() == 0
    assert bn.infer(model, "Once upon a time", b.greedy(8)) == text
