/* The exported functions that work today; unsupported.c has the others.
 *
 * Each one clears the last error, checks its arguments in the order that bitnet.h promises,
 * makes sure Python runs, and only then asks it. */
#include "build_config.h" /* generated: BITNET_BUILD_VERSION */
#include "host.h"
#include "internal.h"

/* An answer that Python never gave is still the preset, and nobody has recorded a text. */
static int finish(int result)
{
    if (result < 0 && !bitnet_has_error())
        return bitnet_fail(result, "the Python side did not answer");
    return result;
}

uint32_t bitnet_abi_version(void)
{
    return BITNET_ABI_VERSION;
}

uint32_t bitnet_ffi_api_version(void)
{
    return 1;
}

const char *bitnet_version(void)
{
    return BITNET_BUILD_VERSION;
}

int bitnet_init(void)
{
    bitnet_clear_last_error();
    return bitnet_start();
}

/* There are no streams or caches yet that it would have to release. */
int bitnet_cleanup(void)
{
    bitnet_clear_last_error();
    return BITNET_SUCCESS;
}

int bitnet_model_load(const char *path)
{
    int result = BITNET_ERROR_INTERNAL;
    bitnet_clear_last_error();
    if (path == NULL)
        return bitnet_refuse("path cannot be null");
    if (bitnet_check_utf8(path, "path"))
        return BITNET_ERROR_INVALID_ARGUMENT;
    if (bitnet_start())
        return BITNET_ERROR_INTERNAL;
    bitnet_host_model_load(path, &result);
    return finish(result);
}

int bitnet_model_free(int model_id)
{
    int result = BITNET_ERROR_INTERNAL;
    bitnet_clear_last_error();
    if (model_id < 0)
        return bitnet_refuse("model_id must be non-negative");
    if (bitnet_start())
        return BITNET_ERROR_INTERNAL;
    bitnet_host_model_free(model_id, &result);
    return finish(result);
}

int bitnet_model_is_loaded(int model_id)
{
    int result = BITNET_ERROR_INTERNAL;
    bitnet_clear_last_error();
    if (model_id < 0)
        return bitnet_refuse("model_id must be non-negative");
    if (bitnet_start())
        return BITNET_ERROR_INTERNAL;
    bitnet_host_model_is_loaded(model_id, &result);
    return finish(result);
}

static int infer(int model_id, const char *prompt, const bitnet_inference_config_t *config,
                 char *output, size_t max_len)
{
    int result = BITNET_ERROR_INTERNAL;
    bitnet_clear_last_error();
    if (model_id < 0)
        return bitnet_refuse("model_id must be non-negative");
    if (prompt == NULL)
        return bitnet_refuse("prompt cannot be null");
    if (config == NULL)
        return bitnet_refuse("config cannot be null");
    if (output == NULL)
        return bitnet_refuse("output cannot be null");
    if (max_len == 0)
        return bitnet_refuse("max_len must be greater than 0");
    if (bitnet_check_utf8(prompt, "prompt") || bitnet_check_inference_config(config))
        return BITNET_ERROR_INVALID_ARGUMENT;
    if (bitnet_start())
        return BITNET_ERROR_INTERNAL;
    bitnet_host_inference(model_id, prompt, config, output, max_len, &result);
    return finish(result);
}

int bitnet_inference(int model_id, const char *prompt, char *output, size_t max_len)
{
    static const bitnet_inference_config_t defaults = BITNET_INFERENCE_CONFIG_INIT;
    return infer(model_id, prompt, &defaults, output, max_len);
}

int bitnet_inference_with_config(int model_id, const char *prompt,
                                 const bitnet_inference_config_t *config, char *output,
                                 size_t max_len)
{
    return infer(model_id, prompt, config, output, max_len);
}

uint32_t bitnet_get_num_threads(void)
{
    return bitnet_processor_count();
}

int bitnet_is_gpu_available(void)
{
    return 0;
}

uint64_t bitnet_get_memory_usage(void)
{
    return 0;
}
