/* Exported functions that only check their arguments yet: "In this release" in bitnet.h. */
#include <stdio.h>

#include "internal.h"

static int unsupported(const char *function)
{
    return bitnet_fail(BITNET_ERROR_UNSUPPORTED_OPERATION, "%s is not available in this release",
                       function);
}

int bitnet_model_load_with_config(const char *path, const bitnet_config_t *config)
{
    bitnet_clear_last_error();
    if (path == NULL)
        return bitnet_refuse("path cannot be null");
    if (config == NULL)
        return bitnet_refuse("config cannot be null");
    if (bitnet_check_utf8(path, "path"))
        return BITNET_ERROR_INVALID_ARGUMENT;
    if (config->model_format > BITNET_FORMAT_HUGGINGFACE)
        return bitnet_refuse("model_format must be 0 (gguf), 1 (safetensors), or 2 (huggingface)");
    if (config->quantization_type > BITNET_QUANT_TL2)
        return bitnet_refuse("quantization_type must be 0 (i2_s), 1 (tl1), or 2 (tl2)");
    return unsupported("bitnet_model_load_with_config");
}

int bitnet_model_get_info(int model_id, bitnet_model_t *info)
{
    bitnet_clear_last_error();
    if (model_id < 0)
        return bitnet_refuse("model_id must be non-negative");
    if (info == NULL)
        return bitnet_refuse("info cannot be null");
    return unsupported("bitnet_model_get_info");
}

int bitnet_get_model_loading_progress(int model_id)
{
    bitnet_clear_last_error();
    if (model_id < 0)
        return bitnet_refuse("model_id must be non-negative");
    return unsupported("bitnet_get_model_loading_progress");
}

int bitnet_switch_model_backend(int model_id, uint32_t backend_preference)
{
    bitnet_clear_last_error();
    if (model_id < 0)
        return bitnet_refuse("model_id must be non-negative");
    if (bitnet_check_backend(backend_preference))
        return BITNET_ERROR_INVALID_ARGUMENT;
    return unsupported("bitnet_switch_model_backend");
}

int bitnet_set_num_threads(uint32_t n)
{
    bitnet_clear_last_error();
    if (n == 0)
        return bitnet_refuse("num_threads must be greater than 0");
    return unsupported("bitnet_set_num_threads");
}

int bitnet_set_gpu_enabled(int enable)
{
    (void)enable;
    bitnet_clear_last_error();
    return unsupported("bitnet_set_gpu_enabled");
}

int bitnet_get_performance_metrics(int model_id, bitnet_performance_metrics_t *metrics)
{
    bitnet_clear_last_error();
    if (model_id < 0)
        return bitnet_refuse("model_id must be non-negative");
    if (metrics == NULL)
        return bitnet_refuse("metrics cannot be null");
    return unsupported("bitnet_get_performance_metrics");
}

int bitnet_reset_performance_metrics(int model_id)
{
    bitnet_clear_last_error();
    if (model_id < 0)
        return bitnet_refuse("model_id must be non-negative");
    return unsupported("bitnet_reset_performance_metrics");
}

static int check_batch_item(const char *prompt, const char *output, size_t max_len, size_t i)
{
    if (prompt == NULL)
        return bitnet_fail(BITNET_ERROR_INVALID_ARGUMENT, "prompt[%zu] cannot be null", i);
    if (output == NULL)
        return bitnet_fail(BITNET_ERROR_INVALID_ARGUMENT, "output[%zu] cannot be null", i);
    if (max_len == 0)
        return bitnet_fail(BITNET_ERROR_INVALID_ARGUMENT, "max_lens[%zu] must be greater than 0",
                           i);
    char name[40];
    snprintf(name, sizeof name, "prompt[%zu]", i);
    return bitnet_check_utf8(prompt, name);
}

int bitnet_batch_inference(int model_id, const char **prompts, size_t num_prompts,
                           const bitnet_inference_config_t *config, char **outputs,
                           size_t *max_lens)
{
    bitnet_clear_last_error();
    if (model_id < 0)
        return bitnet_refuse("model_id must be non-negative");
    if (prompts == NULL)
        return bitnet_refuse("prompts cannot be null");
    if (outputs == NULL)
        return bitnet_refuse("outputs cannot be null");
    if (max_lens == NULL)
        return bitnet_refuse("max_lens cannot be null");
    if (config == NULL)
        return bitnet_refuse("config cannot be null");
    if (num_prompts == 0)
        return bitnet_refuse("num_prompts must be greater than 0");
    if (bitnet_check_inference_config(config))
        return BITNET_ERROR_INVALID_ARGUMENT;
    for (size_t i = 0; i < num_prompts; i++)
        if (check_batch_item(prompts[i], outputs[i], max_lens[i], i))
            return BITNET_ERROR_INVALID_ARGUMENT;
    return unsupported("bitnet_batch_inference");
}

int bitnet_start_streaming(int model_id, const char *prompt,
                           const bitnet_inference_config_t *config,
                           const bitnet_stream_config_t *stream_config)
{
    bitnet_clear_last_error();
    if (model_id < 0)
        return bitnet_refuse("model_id must be non-negative");
    if (prompt == NULL)
        return bitnet_refuse("prompt cannot be null");
    if (config == NULL)
        return bitnet_refuse("config cannot be null");
    if (stream_config == NULL)
        return bitnet_refuse("stream_config cannot be null");
    if (bitnet_check_utf8(prompt, "prompt") || bitnet_check_inference_config(config))
        return BITNET_ERROR_INVALID_ARGUMENT;
    return unsupported("bitnet_start_streaming");
}

int bitnet_stream_next_token(int stream_id, char *token, size_t max_len)
{
    bitnet_clear_last_error();
    if (stream_id < 0)
        return bitnet_refuse("stream_id must be non-negative");
    if (token == NULL)
        return bitnet_refuse("token cannot be null");
    if (max_len == 0)
        return bitnet_refuse("max_len must be greater than 0");
    return unsupported("bitnet_stream_next_token");
}

int bitnet_stop_streaming(int stream_id)
{
    bitnet_clear_last_error();
    if (stream_id < 0)
        return bitnet_refuse("stream_id must be non-negative");
    return unsupported("bitnet_stop_streaming");
}

int bitnet_set_memory_limit(uint64_t limit_bytes)
{
    (void)limit_bytes;
    bitnet_clear_last_error();
    return unsupported("bitnet_set_memory_limit");
}

int bitnet_garbage_collect(void)
{
    bitnet_clear_last_error();
    return unsupported("bitnet_garbage_collect");
}
