"""The functions of cabi/host.h that bitnet.h needs: from C values to `Host` and back."""

from __future__ import annotations

import os
from typing import Any

from bitnet.embed.attach_ext import attach_ext
from bitnet.embed.ffi import Ffi, Lib, define, report, write_text
from bitnet.embed.host import Host
from bitnet.embed.logs import LogHandler
from bitnet.embed.requests import Request
from bitnet.embed.settings import InferenceConfig, options, quantization_type
from bitnet.embed.streams import StreamConfig, stream_settings
from bitnet.embed.text import fitting, utf8


def attach(ffi: Ffi, lib: Lib) -> None:
    """Give the functions of cabi/host.h their bodies. Called once, when the library starts."""
    host = Host()
    _attach_models(ffi, lib, host)
    _attach_runs(ffi, lib, host)
    _attach_streams(ffi, lib, host)
    _attach_settings(ffi, lib, host)
    attach_ext(ffi, lib, host)


def _attach_models(ffi: Ffi, lib: Lib, host: Host) -> None:
    def model_load(path: Any, config: Any) -> int:
        return host.load(os.fsdecode(ffi.string(path)), config or None)

    def model_free(model_id: int) -> None:
        host.free(model_id)

    def model_is_loaded(model_id: int) -> int:
        return model_id in host.models

    def model_get_info(model_id: int, info: Any) -> None:
        loaded = host.models.get(model_id)
        model, spec = loaded.model, loaded.model.config
        names = {"name": model.name, "version": model.version, "architecture": spec.architecture}
        for field, text in names.items():
            pointer = loaded.c_strings.setdefault(field, ffi.new("char[]", utf8(text)))
            setattr(info, field, pointer)
        info.vocab_size, info.context_length = spec.vocab_size, spec.context_length
        info.hidden_size, info.num_layers = spec.hidden_size, spec.n_layers
        info.num_heads, info.intermediate_size = spec.n_heads, spec.ffn_size
        info.quantization_type = quantization_type(model.weight_types)
        info.file_size, info.memory_usage = model.file_bytes, model.memory_usage
        info.is_gpu_loaded = 0

    def model_loading_progress(model_id: int) -> int:
        host.models.get(model_id)
        return 100

    def switch_model_backend(model_id: int, backend: int) -> None:
        host.switch_backend(model_id, backend)

    def get_metrics(model_id: int, metrics: Any) -> None:
        loaded = host.models.get(model_id)
        last = loaded.metrics
        metrics.tokens_per_second = last.tokens_per_s if last else 0
        metrics.latency_ms = last.between_tokens_s * 1e3 if last else 0
        metrics.memory_usage_mb = loaded.model.memory_usage / 1e6 if last else 0
        metrics.gpu_utilization = -1
        metrics.total_inference_time_ms = last.total_s * 1e3 if last else 0
        metrics.time_to_first_token_ms = last.first_token_s * 1e3 if last else 0
        metrics.tokens_generated = last.tokens if last else 0
        metrics.prompt_tokens = last.prompt_tokens if last else 0

    def reset_metrics(model_id: int) -> None:
        host.models.get(model_id).metrics = None

    functions = (model_load, model_free, model_is_loaded, model_get_info)
    define(ffi, lib, functions)
    define(ffi, lib, (model_loading_progress, switch_model_backend, get_metrics, reset_metrics))


def _attach_runs(ffi: Ffi, lib: Lib, host: Host) -> None:
    def inference(
        model_id: int, prompt: Any, config: InferenceConfig, output: Any, max_len: int
    ) -> int:
        text = host.generate(model_id, ffi.string(prompt).decode(), options(config))
        data = fitting(utf8(text), max_len)
        write_text(ffi, output, data)
        return len(data)

    def batch_inference(
        model_id: int, prompts: Any, n: int, config: InferenceConfig, outputs: Any, max_lens: Any
    ) -> int:
        texts = [ffi.string(prompts[i]).decode() for i in range(n)]
        outcomes = host.generate_batch(model_id, texts, options(config))
        for i, outcome in enumerate(outcomes):
            if isinstance(outcome, str):
                write_text(ffi, outputs[i], fitting(utf8(outcome), max_lens[i]))
            else:
                write_text(ffi, outputs[i], b"")
                report(lib, outcome)
        return sum(isinstance(outcome, str) for outcome in outcomes)

    define(ffi, lib, (inference, batch_inference))


def _attach_streams(ffi: Ffi, lib: Lib, host: Host) -> None:
    def start_streaming(
        model_id: int, prompt: Any, config: InferenceConfig, stream_config: StreamConfig
    ) -> int:
        request = Request(ffi.string(prompt).decode(), None, None, options(config), None)
        return host.start_stream(model_id, request, stream_settings(stream_config))

    def stream_next(stream_id: int, token: Any, max_len: int, callback: Any, user_data: Any) -> int:
        stream = host.streams.get(stream_id)
        data = stream.read(max_len)
        if data:
            write_text(ffi, token, data)
            callback[0], user_data[0] = stream.settings.callback, stream.settings.user_data
        return len(data)

    def end_stream(stream_id: int) -> None:
        host.streams.get(stream_id).stop()

    def stop_streaming(stream_id: int) -> None:
        host.streams.remove(stream_id).stop()

    define(ffi, lib, (start_streaming, stream_next, end_stream, stop_streaming))


def _attach_settings(ffi: Ffi, lib: Lib, host: Host) -> None:
    logs = LogHandler(lib.bitnet_report_log)

    def settings_changed() -> None:
        logs.want(lib.bitnet_setting_log_level())
        host.memory.limit = lib.bitnet_setting_memory_limit() or None
        host.set_threads(lib.bitnet_setting_num_threads() or None)

    def get_memory_usage(usage: Any) -> None:
        usage[0] = host.memory.used

    def garbage_collect() -> None:
        host.collect()

    def cleanup() -> None:
        host.cleanup()

    settings_changed()
    define(ffi, lib, (settings_changed, garbage_collect, cleanup))
    ffi.def_extern("bitnet_host_get_memory_usage")(get_memory_usage)
