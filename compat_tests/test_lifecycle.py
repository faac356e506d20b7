"""Version, init and cleanup; loading, describing and freeing models."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import gguf
import pytest

from compat_tests import binding as b
from compat_tests.binding import Library


class Metadata(gguf.GGUFReader):
    """Key-value pairs alone: the package does not know the types of ternary tensors."""

    def _build_tensors(self, start_offs: int, fields: object) -> None:
        self.tensors = []


def test_abi_is_version_1(bn: Library) -> None:
    assert bn.bitnet_abi_version() == 1
    assert bn.bitnet_ffi_api_version() == 1


def test_version_is_one_text_that_stays(bn: Library) -> None:
    address = bn.bitnet_version()
    assert ctypes.string_at(address).decode()[0].isdecimal()
    assert bn.bitnet_version() == address


def test_init_and_cleanup_may_be_repeated(bn: Library) -> None:
    assert [bn.bitnet_init(), bn.bitnet_init()] == [0, 0]
    assert [bn.bitnet_cleanup(), bn.bitnet_cleanup()] == [0, 0]
    assert bn.bitnet_init() == 0


def test_cleanup_keeps_models_and_thread_count(bn: Library, model: int) -> None:
    before = bn.bitnet_get_num_threads()
    assert bn.bitnet_set_num_threads(2) == 0
    assert bn.bitnet_cleanup() == 0
    assert bn.bitnet_get_num_threads() == 2
    assert bn.bitnet_model_is_loaded(model) == 1
    assert bn.infer(model, "Once", b.greedy(2)) != ""
    bn.bitnet_set_num_threads(before)


# -- loading --------------------------------------------------------------------------------------


def test_null_path_is_refused(bn: Library) -> None:
    assert bn.bitnet_model_load(None) == b.INVALID_ARGUMENT
    assert bn.last_error() == "Invalid argument: path cannot be null"
    code = bn.bitnet_model_load_with_config(None, b.config())
    assert bn.refused(code, b.INVALID_ARGUMENT, "path cannot be null")


def test_null_config_is_refused(bn: Library, story_model: Path) -> None:
    code = bn.bitnet_model_load_with_config(str(story_model).encode(), None)
    assert bn.refused(code, b.INVALID_ARGUMENT, "config cannot be null")


@pytest.mark.parametrize(
    "path", [b"\xff", b"a\xc3(", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"]
)
def test_path_must_be_utf8(bn: Library, path: bytes) -> None:
    assert bn.refused(bn.bitnet_model_load(path), b.INVALID_ARGUMENT, "Invalid UTF-8 in path: ")


@pytest.mark.parametrize("path", ["", "/no/such/model", "/no/such/dossier/modèle 世界.gguf"])
def test_missing_file_is_named(bn: Library, path: str) -> None:
    code = bn.bitnet_model_load(path.encode())
    assert bn.refused(code, b.MODEL_NOT_FOUND, f"Model file not found: {path}")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"Dear diary, this is no model.", bytes(4096)])
def test_file_that_is_no_model_is_refused(bn: Library, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no_model.gguf"
    path.write_bytes(content)
    assert bn.refused(bn.bitnet_model_load(str(path).encode()), b.MODEL_LOAD_FAILED)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_truncated_model_is_refused(
    bn: Library, story_model: Path, tmp_path: Path, share: float
) -> None:
    content = story_model.read_bytes()
    path = tmp_path / "truncated.gguf"
    path.write_bytes(content[: int(len(content) * share)])
    assert bn.refused(bn.bitnet_model_load(str(path).encode()), b.MODEL_LOAD_FAILED)


@pytest.mark.parametrize(
    ("field", "value"),
    [("model_format", 3), ("quantization_type", 3), ("model_format", 2**32 - 1)],
)
def test_unknown_number_in_a_config_is_an_invalid_argument(
    bn: Library, story_model: Path, field: str, value: int
) -> None:
    settings = b.config(**{field: value})
    code = bn.bitnet_model_load_with_config(str(story_model).encode(), settings)
    assert bn.refused(code, b.INVALID_ARGUMENT, field)


def test_default_config_loads(bn: Library, model: int, story_model: Path) -> None:
    configured = bn.bitnet_model_load_with_config(str(story_model).encode(), b.config())
    assert configured >= 0, bn.last_error()
    settings = b.greedy(8)
    assert bn.infer(configured, "Once", settings) == bn.infer(model, "Once", settings)
    assert bn.bitnet_model_free(configured) == 0


def test_a_format_that_is_asked_for_must_be_the_file_s(bn: Library, story_model: Path) -> None:
    code = bn.bitnet_model_load_with_config(str(story_model).encode(), b.config(model_format=1))
    assert code in (b.MODEL_LOAD_FAILED, b.INVALID_ARGUMENT)
    assert bn.refused(code, code)


def test_threads_of_a_config_do_not_change_the_text(
    bn: Library, model: int, story_model: Path
) -> None:
    settings = b.greedy(12)
    for threads in (1, 2, 3):
        other = bn.bitnet_model_load_with_config(
            str(story_model).encode(), b.config(num_threads=threads)
        )
        assert other >= 0, bn.last_error()
        assert bn.infer(other, "Once", settings) == bn.infer(model, "Once", settings)
        assert bn.bitnet_model_free(other) == 0


# -- ids ------------------------------------------------------------------------------------------


def test_ids_count_up_and_are_never_used_twice(bn: Library, tiny_model: Path) -> None:
    first, second = bn.load(tiny_model), bn.load(tiny_model)
    assert second == first + 1
    assert bn.bitnet_model_free(second) == 0
    assert bn.bitnet_model_load(b"/no/such/model") == b.MODEL_NOT_FOUND
    third = bn.load(tiny_model)
    assert third == second + 1  # neither the freed id nor one for the failure
    assert bn.bitnet_model_free(third) == bn.bitnet_model_free(first) == 0


def test_model_is_loaded_until_it_is_freed(bn: Library, tiny_model: Path) -> None:
    model = bn.load(tiny_model)
    assert bn.bitnet_model_is_loaded(model) == 1
    assert bn.bitnet_model_free(model) == 0
    assert bn.bitnet_model_is_loaded(model) == 0
    assert bn.last_error() is None


def test_freed_model_is_gone_for_every_call(bn: Library, tiny_model: Path) -> None:
    model = bn.load(tiny_model)
    assert bn.infer(model, "Say", b.greedy(1)) != ""
    assert bn.bitnet_model_free(model) == 0
    output = ctypes.create_string_buffer(b"kept")
    settings = b.greedy(1)
    for code in (
        bn.bitnet_model_free(model),
        bn.bitnet_model_get_info(model, b.ModelInfo()),
        bn.bitnet_get_model_loading_progress(model),
        bn.bitnet_switch_model_backend(model, 0),
        bn.bitnet_get_performance_metrics(model, b.Metrics()),
        bn.bitnet_reset_performance_metrics(model),
        bn.bitnet_inference(model, b"Say", output, 5),
        bn.bitnet_start_streaming(model, b"Say", settings, b.stream_config()),
    ):
        assert bn.refused(code, b.INVALID_MODEL_ID, f"Model ID {model} not found")
    assert output.value == b"kept"


@pytest.mark.parametrize("model", [-1, -(2**31)])
def test_negative_model_ids_are_invalid_arguments(bn: Library, model: int) -> None:
    settings, output = b.greedy(1), ctypes.create_string_buffer(8)
    prompts = (ctypes.c_char_p * 1)(b"x")
    outputs = (ctypes.c_void_p * 1)(ctypes.addressof(output))
    for code in (
        bn.bitnet_model_free(model),
        bn.bitnet_model_is_loaded(model),
        bn.bitnet_model_get_info(model, b.ModelInfo()),
        bn.bitnet_get_model_loading_progress(model),
        bn.bitnet_switch_model_backend(model, 0),
        bn.bitnet_get_performance_metrics(model, b.Metrics()),
        bn.bitnet_reset_performance_metrics(model),
        bn.bitnet_inference(model, b"x", output, 8),
        bn.bitnet_inference_with_config(model, b"x", settings, output, 8),
        bn.bitnet_batch_inference(model, prompts, 1, settings, outputs, (ctypes.c_size_t * 1)(8)),
        bn.bitnet_start_streaming(model, b"x", settings, b.stream_config()),
    ):
        assert bn.refused(code, b.INVALID_ARGUMENT, "model_id must be non-negative")


# -- description ----------------------------------------------------------------------------------


def test_info_is_what_the_file_says(bn: Library, model: int, story_model: Path) -> None:
    if not story_model.is_file():
        pytest.skip("BITNET_MODEL is not a GGUF file")
    fields = Metadata(story_model).fields
    architecture = fields["general.architecture"].contents()

    def value(name: str) -> int:
        return int(fields[f"{architecture}.{name}"].contents())

    info = b.ModelInfo()
    assert bn.bitnet_model_get_info(model, info) == 0
    assert info.vocab_size == len(fields["tokenizer.ggml.tokens"].contents())
    assert info.context_length == value("context_length")
    assert info.hidden_size == value("embedding_length")
    assert info.num_layers == value("block_count")
    assert info.num_heads == value("attention.head_count")
    assert info.intermediate_size == value("feed_forward_length")
    assert info.file_size == os.path.getsize(story_model)
    assert info.memory_usage > 0
    assert info.is_gpu_loaded == 0
    assert info.quantization_type in (0, 1, 2)
    assert info.name.decode() != ""
    assert info.architecture.decode() != ""
    info.version.decode()  # a file may give none


def test_strings_of_info_live_as_long_as_the_model(bn: Library, model: int) -> None:
    first, second = b.ModelInfo(), b.ModelInfo()
    assert bn.bitnet_model_get_info(model, first) == 0
    texts = (first.name, first.version, first.architecture)
    bn.infer(model, "Once", b.greedy(2))
    assert bn.bitnet_model_get_info(model, second) == 0
    assert bn.bitnet_garbage_collect() == 0
    assert (first.name, first.version, first.architecture) == texts
    assert (second.name, second.version, second.architecture) == texts


def test_info_needs_a_place_to_go(bn: Library) -> None:
    code = bn.bitnet_model_get_info(0, None)
    assert bn.refused(code, b.INVALID_ARGUMENT, "info cannot be null")


def test_loaded_model_is_at_100_percent(bn: Library, model: int) -> None:
    assert bn.bitnet_get_model_loading_progress(model) == 100
    code = bn.bitnet_get_model_loading_progress(b.NO_ID)
    assert bn.refused(code, b.INVALID_MODEL_ID)
