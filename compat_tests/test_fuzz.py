"""Arbitrary arguments and arbitrary model files: an answer or an error with its text, always."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compat_tests import binding as b
from compat_tests.binding import Library
from compat_tests.programs import LONG, OURS, ROOT, link_options, needs

SECONDS = 3600 if LONG else 60 if "CI" in os.environ else 10
EXAMPLES = settings(
    max_examples=2000 if LONG else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
INTS = st.sampled_from([-(2**31), -1, 0, 1, 2, 2**31 - 1]) | st.integers(-(2**31), 2**31 - 1)
U32S = st.sampled_from([0, 1, 2, 3, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
U64S = st.sampled_from([0, 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
FLOATS = st.floats(width=32)
TEXTS = st.none() | st.binary(max_size=40) | st.text(max_size=20).map(str.encode)
SIZES = st.integers(0, 64)
FIELDS: dict[type[Any], Any] = {
    ctypes.c_float: FLOATS,
    ctypes.c_uint64: U64S,
    ctypes.c_uint32: U32S,
}


@st.composite
def structures(draw: st.DrawFn, kind: Any, **limits: Any) -> Any:
    """A structure of arbitrary numbers; pointers stay NULL."""
    made = kind()
    for name, field in kind._fields_:
        if field in FIELDS:
            setattr(made, name, draw(limits.get(name, FIELDS[field])))
    return made


def is_answer(bn: Library, code: int, *, least: int = 0) -> bool:
    """Not an error, and no text; or one of the errors, with its prefix."""
    text = bn.last_error()
    if code >= least:
        return text is None
    return text is not None and text.startswith(b.PREFIXES.get(code, "?"))


def is_valid(config: b.InferenceConfig) -> bool:
    """As bitnet.h puts it; a NaN is out of every range."""
    return (
        min(config.max_length, config.max_new_tokens, config.stream_buffer_size) > 0
        and config.temperature > 0
        and 0 <= config.top_p <= 1
        and config.repetition_penalty > 0
        and config.backend_preference <= 2
    )


@EXAMPLES
@given(INTS, INTS, U32S)
def test_any_number_is_a_safe_id(bn: Library, model: int, stream: int, number: int) -> None:
    token = ctypes.create_string_buffer(8)
    for code in (
        bn.bitnet_model_is_loaded(model),
        bn.bitnet_model_get_info(model, b.ModelInfo()),
        bn.bitnet_get_performance_metrics(model, b.Metrics()),
        bn.bitnet_reset_performance_metrics(model),
        bn.bitnet_get_model_loading_progress(model),
        bn.bitnet_switch_model_backend(model, number),
        bn.bitnet_model_free(model),
        bn.bitnet_stream_next_token(stream, token, 8),
        bn.bitnet_stop_streaming(stream),
        bn.bitnet_set_gpu_enabled(model),
    ):
        assert -10 <= code <= 100
    assert is_answer(bn, bn.bitnet_model_free(model))


@EXAMPLES
@given(U32S)
def test_any_number_is_a_safe_thread_count(bn: Library, n: int) -> None:
    before = bn.bitnet_get_num_threads()
    code = bn.bitnet_set_num_threads(n)
    assert is_answer(bn, code)
    assert bn.bitnet_get_num_threads() == (n if code == 0 else before)
    assert bn.bitnet_set_num_threads(before) == 0


@EXAMPLES
@given(structures(b.InferenceConfig, max_new_tokens=st.integers(0, 6)), TEXTS, SIZES)
def test_any_inference_config_runs_or_is_refused_by_name(
    bn: Library, tiny: int, config: b.InferenceConfig, prompt: bytes | None, size: int
) -> None:
    output = ctypes.create_string_buffer(b"#" * (size + 8))
    code = bn.bitnet_inference_with_config(tiny, prompt, config, output, size)
    text = bn.last_error() or ""
    assert is_answer(bn, code)
    assert output.raw[size : size + 8] == b"#" * 8
    if code < 0:
        assert output.raw[:size] == b"#" * size
    else:
        assert code < size
        assert output.raw[code : code + 1] == b"\0"
        output.raw[:code].decode()
    if prompt is None or size == 0:
        assert code == b.INVALID_ARGUMENT
    elif not is_valid(config):
        assert code == b.INVALID_ARGUMENT
        assert "UTF-8" in text or any(name in text for name, _ in config._fields_), text
    else:
        assert code != b.INTERNAL, text


@EXAMPLES
@given(structures(b.Config, num_threads=st.integers(0, 4)))
def test_any_load_config_loads_or_is_refused(
    bn: Library, tiny_model: Path, config: b.Config
) -> None:
    model = bn.bitnet_model_load_with_config(str(tiny_model).encode(), config)
    assert is_answer(bn, model)
    assert model != b.INTERNAL, bn.last_error()
    if model >= 0:
        assert bn.bitnet_model_free(model) == 0


@EXAMPLES
@given(
    structures(b.InferenceConfig, max_new_tokens=st.integers(0, 6)),
    structures(b.StreamConfig, timeout_ms=st.integers(0, 1000)),
    TEXTS,
    st.lists(SIZES, max_size=8),
)
def test_any_stream_ends(
    bn: Library,
    tiny: int,
    config: b.InferenceConfig,
    how: b.StreamConfig,
    prompt: bytes | None,
    sizes: list[int],
) -> None:
    stream = bn.bitnet_start_streaming(tiny, prompt, config, how)
    assert is_answer(bn, stream)
    if stream < 0:
        return
    for size in sizes:
        token = ctypes.create_string_buffer(b"#" * (size + 8))
        code = bn.bitnet_stream_next_token(stream, token, size)
        assert is_answer(bn, code)
        assert token.raw[size : size + 8] == b"#" * 8
        if code <= 0:
            assert token.raw[:size] == b"#" * size
    assert bn.bitnet_stop_streaming(stream) == 0


@EXAMPLES
@given(
    st.lists(TEXTS, max_size=4),
    st.integers(0, 4),
    structures(b.InferenceConfig, max_new_tokens=st.integers(0, 4)),
)
def test_any_batch_counts_its_successes(
    bn: Library, tiny: int, prompts: list[bytes | None], size: int, config: b.InferenceConfig
) -> None:
    n = len(prompts)
    buffers = [ctypes.create_string_buffer(b"#" * (size + 8)) for _ in prompts]
    code = bn.bitnet_batch_inference(
        tiny,
        (ctypes.c_char_p * n)(*prompts),
        n,
        config,
        (ctypes.c_void_p * n)(*map(ctypes.addressof, buffers)),
        (ctypes.c_size_t * n)(*[size] * n),
    )
    assert code <= n
    if code < n or n == 0:
        assert bn.last_error()
    for buffer in buffers:
        assert buffer.raw[size : size + 8] == b"#" * 8


@EXAMPLES
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_model_or_an_error(
    bn: Library, tmp_path: Path, content: bytes, magic: bool
) -> None:
    path = tmp_path / "fuzzed.gguf"
    path.write_bytes((b"GGUF\x03\0\0\0" if magic else b"") + content)
    model = bn.bitnet_model_load(str(path).encode())
    assert model in (b.MODEL_LOAD_FAILED, b.OUT_OF_MEMORY), bn.last_error()
    assert is_answer(bn, model)


@EXAMPLES
@given(st.data())
def test_any_damage_to_a_model_is_found_or_harmless(
    bn: Library, tiny_model: Path, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(tiny_model.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 8000) | st.integers(0, len(content) - 1))
        content[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    model = bn.bitnet_model_load(str(path).encode())
    assert is_answer(bn, model)
    assert model != b.INTERNAL, bn.last_error()
    if model >= 0:
        output = ctypes.create_string_buffer(64)
        code = bn.bitnet_inference_with_config(model, b"Say", b.greedy(3), output, 64)
        assert is_answer(bn, code)
        assert bn.bitnet_model_free(model) == 0


@pytest.fixture(scope="module")
def tiny(bn: Library, tiny_model: Path) -> int:
    """The id of a tiny model; settings that are arbitrary make no story anyway."""
    return bn.load(tiny_model)


@OURS
@needs("clang")
@pytest.mark.skipif(sys.platform != "linux", reason="the harness is built as on Linux")
def test_libfuzzer_finds_nothing(library: Path, tiny_model: Path, tmp_path: Path) -> None:
    """From the saved corpus on, which stays as it is."""
    source = ROOT / "compat_tests" / "fuzz" / "harness.c"
    fuzzer = tmp_path / "harness"
    command = ["clang", "-g", "-O1", "-fsanitize=fuzzer", f"-I{ROOT}", source, "-o", fuzzer]
    built = subprocess.run([*command, *link_options(library)], capture_output=True, text=True)
    if "libclang_rt.fuzzer" in built.stderr:
        pytest.skip("clang has no libFuzzer")
    assert built.returncode == 0, built.stderr
    corpus = shutil.copytree(source.parent / "corpus", tmp_path / "corpus")
    limits = [f"-max_total_time={SECONDS}", "-timeout=60", "-rss_limit_mb=6000"]
    done = subprocess.run(
        [fuzzer, *limits, f"-artifact_prefix={tmp_path}/", "-max_len=4096", corpus],
        env={"BITNET_FUZZ_MODEL": str(tiny_model), "BITNET_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
