/* Every wrong argument of every call, in the order in which they are checked. Run where Python
 * cannot start: a check that came too late would return BITNET_ERROR_INTERNAL. */
#include <math.h>

#include "check.h"

#define WRONG(call, text) \
    CHECK_FAILS(call, BITNET_ERROR_INVALID_ARGUMENT, "Invalid argument: " text)
/* The checks let it through, and it meets the missing interpreter. */
#define PASSES(call) CHECK(call == BITNET_ERROR_INTERNAL)

static const char bad[] = "a\xC3(";

static void model_calls(void)
{
    bitnet_config_t config = BITNET_CONFIG_INIT;
    bitnet_model_t info;
    bitnet_performance_metrics_t metrics;

    WRONG(bitnet_model_load(NULL), "path cannot be null");
    WRONG(bitnet_model_load(bad), "Invalid UTF-8 in path: unexpected byte at index 1");

    WRONG(bitnet_model_load_with_config(NULL, NULL), "path cannot be null");
    WRONG(bitnet_model_load_with_config(bad, NULL), "config cannot be null");
    config.model_format = config.quantization_type = 3;
    WRONG(bitnet_model_load_with_config(bad, &config),
          "Invalid UTF-8 in path: unexpected byte at index 1");
    WRONG(bitnet_model_load_with_config("x", &config),
          "model_format must be 0 (gguf), 1 (safetensors), or 2 (huggingface)");
    config.model_format = 2;
    WRONG(bitnet_model_load_with_config("x", &config),
          "quantization_type must be 0 (i2_s), 1 (tl1), or 2 (tl2)");
    config.quantization_type = 2;
    config.num_threads = 1025;
    WRONG(bitnet_model_load_with_config("x", &config), "num_threads must be at most 1024");
    config.num_threads = 1024;
    config.use_gpu = 1;
    CHECK_FAILS(bitnet_model_load_with_config("x", &config), BITNET_ERROR_UNSUPPORTED_OPERATION,
                "Unsupported operation: use_gpu: GPU not available");
    config.use_gpu = 0;
    PASSES(bitnet_model_load_with_config("x", &config));

    WRONG(bitnet_model_free(-1), "model_id must be non-negative");
    WRONG(bitnet_model_is_loaded(-7), "model_id must be non-negative");
    WRONG(bitnet_model_get_info(-1, NULL), "model_id must be non-negative");
    WRONG(bitnet_model_get_info(0, NULL), "info cannot be null");
    PASSES(bitnet_model_get_info(0, &info));
    WRONG(bitnet_get_model_loading_progress(-1), "model_id must be non-negative");
    PASSES(bitnet_get_model_loading_progress(0));
    WRONG(bitnet_switch_model_backend(-1, 3), "model_id must be non-negative");
    WRONG(bitnet_switch_model_backend(0, 3),
          "backend_preference must be 0 (auto), 1 (cpu), or 2 (gpu)");
    PASSES(bitnet_switch_model_backend(0, 1));

    WRONG(bitnet_get_performance_metrics(-1, NULL), "model_id must be non-negative");
    WRONG(bitnet_get_performance_metrics(0, NULL), "metrics cannot be null");
    PASSES(bitnet_get_performance_metrics(0, &metrics));
    WRONG(bitnet_reset_performance_metrics(-1), "model_id must be non-negative");
    PASSES(bitnet_reset_performance_metrics(0));
}

static int run(const bitnet_inference_config_t *config)
{
    char output[8];
    return bitnet_inference_with_config(0, "x", config, output, sizeof output);
}

static void inference_calls(void)
{
    char output[16] = "as it was";
    bitnet_inference_config_t config = {0};

    WRONG(bitnet_inference(-1, NULL, NULL, 0), "model_id must be non-negative");
    WRONG(bitnet_inference(0, NULL, NULL, 0), "prompt cannot be null");
    WRONG(bitnet_inference(0, bad, NULL, 0), "output cannot be null");
    WRONG(bitnet_inference(0, bad, output, 0), "max_len must be greater than 0");
    WRONG(bitnet_inference(0, bad, output, sizeof output),
          "Invalid UTF-8 in prompt: unexpected byte at index 1");

    WRONG(bitnet_inference_with_config(-1, NULL, NULL, NULL, 0), "model_id must be non-negative");
    WRONG(bitnet_inference_with_config(0, NULL, NULL, NULL, 0), "prompt cannot be null");
    WRONG(bitnet_inference_with_config(0, bad, NULL, NULL, 0), "config cannot be null");
    WRONG(bitnet_inference_with_config(0, bad, &config, NULL, 0), "output cannot be null");
    WRONG(bitnet_inference_with_config(0, bad, &config, output, 0),
          "max_len must be greater than 0");
    WRONG(bitnet_inference_with_config(0, bad, &config, output, sizeof output),
          "Invalid UTF-8 in prompt: unexpected byte at index 1");

    /* All fields are wrong; they are reported from first to last. */
    config.temperature = config.repetition_penalty = -1;
    config.top_p = 1.5F;
    config.backend_preference = 3;
    WRONG(run(&config), "max_length must be greater than 0");
    config.max_length = 1;
    WRONG(run(&config), "max_new_tokens must be greater than 0");
    config.max_new_tokens = 1;
    WRONG(run(&config), "temperature must be greater than 0");
    config.temperature = 0;
    WRONG(run(&config), "temperature must be greater than 0");
    config.temperature = NAN;
    WRONG(run(&config), "temperature must be greater than 0");
    config.temperature = 1;
    WRONG(run(&config), "top_p must be between 0.0 and 1.0");
    config.top_p = -0.1F;
    WRONG(run(&config), "top_p must be between 0.0 and 1.0");
    config.top_p = NAN;
    WRONG(run(&config), "top_p must be between 0.0 and 1.0");
    config.top_p = 1;
    WRONG(run(&config), "repetition_penalty must be greater than 0");
    config.repetition_penalty = 1;
    WRONG(run(&config), "backend_preference must be 0 (auto), 1 (cpu), or 2 (gpu)");
    config.backend_preference = 2;
    WRONG(run(&config), "stream_buffer_size must be greater than 0");
    CHECK(strcmp(output, "as it was") == 0);
}

static void batch_calls(void)
{
    const char *prompts[] = {"one", bad, NULL};
    char text[8];
    char *outputs[] = {text, text, NULL};
    size_t sizes[] = {8, 8, 0};
    bitnet_inference_config_t config = BITNET_INFERENCE_CONFIG_INIT;

    WRONG(bitnet_batch_inference(-1, NULL, 0, NULL, NULL, NULL), "model_id must be non-negative");
    WRONG(bitnet_batch_inference(0, NULL, 0, NULL, NULL, NULL), "prompts cannot be null");
    WRONG(bitnet_batch_inference(0, prompts, 0, NULL, NULL, NULL), "outputs cannot be null");
    WRONG(bitnet_batch_inference(0, prompts, 0, NULL, outputs, NULL), "max_lens cannot be null");
    WRONG(bitnet_batch_inference(0, prompts, 0, NULL, outputs, sizes), "config cannot be null");
    WRONG(bitnet_batch_inference(0, prompts, 0, &config, outputs, sizes),
          "num_prompts must be greater than 0");
    config.max_length = 0;
    WRONG(bitnet_batch_inference(0, prompts, 3, &config, outputs, sizes),
          "max_length must be greater than 0");
    config.max_length = 1;
    WRONG(bitnet_batch_inference(0, prompts, 3, &config, outputs, sizes),
          "Invalid UTF-8 in prompt[1]: unexpected byte at index 1");
    prompts[1] = "two";
    WRONG(bitnet_batch_inference(0, prompts, 3, &config, outputs, sizes),
          "prompt[2] cannot be null");
    prompts[2] = "three";
    WRONG(bitnet_batch_inference(0, prompts, 3, &config, outputs, sizes),
          "output[2] cannot be null");
    outputs[2] = text;
    WRONG(bitnet_batch_inference(0, prompts, 3, &config, outputs, sizes),
          "max_lens[2] must be greater than 0");
    sizes[2] = 8;
    PASSES(bitnet_batch_inference(0, prompts, 3, &config, outputs, sizes));
}

static void stream_calls(void)
{
    char token[8];
    bitnet_inference_config_t config = BITNET_INFERENCE_CONFIG_INIT;
    bitnet_stream_config_t stream = BITNET_STREAM_CONFIG_INIT;

    WRONG(bitnet_start_streaming(-1, NULL, NULL, NULL), "model_id must be non-negative");
    WRONG(bitnet_start_streaming(0, NULL, NULL, NULL), "prompt cannot be null");
    WRONG(bitnet_start_streaming(0, bad, NULL, NULL), "config cannot be null");
    WRONG(bitnet_start_streaming(0, bad, &config, NULL), "stream_config cannot be null");
    config.max_new_tokens = 0;
    WRONG(bitnet_start_streaming(0, bad, &config, &stream),
          "Invalid UTF-8 in prompt: unexpected byte at index 1");
    WRONG(bitnet_start_streaming(0, "x", &config, &stream),
          "max_new_tokens must be greater than 0");
    config.max_new_tokens = 1;
    PASSES(bitnet_start_streaming(0, "x", &config, &stream));

    WRONG(bitnet_stream_next_token(-1, NULL, 0), "stream_id must be non-negative");
    WRONG(bitnet_stream_next_token(0, NULL, 0), "token cannot be null");
    WRONG(bitnet_stream_next_token(0, token, 0), "max_len must be greater than 0");
    PASSES(bitnet_stream_next_token(0, token, 8));
    WRONG(bitnet_stop_streaming(-1), "stream_id must be non-negative");
    PASSES(bitnet_stop_streaming(0));
}

static void settings(void)
{
    WRONG(bitnet_set_num_threads(1025), "num_threads must be at most 1024");
    CHECK(bitnet_set_num_threads(4) == BITNET_SUCCESS);
    CHECK(bitnet_set_gpu_enabled(0) == BITNET_SUCCESS);
    CHECK(bitnet_set_memory_limit(0) == BITNET_SUCCESS);
    CHECK(bitnet_garbage_collect() == BITNET_SUCCESS);
    CHECK(bitnet_cleanup() == BITNET_SUCCESS);
    CHECK_FAILS(bitnet_set_gpu_enabled(1), BITNET_ERROR_UNSUPPORTED_OPERATION,
                "Unsupported operation: bitnet_set_gpu_enabled: GPU not available");
    CHECK_FAILS(bitnet_set_num_threads(0), BITNET_ERROR_THREAD_SAFETY,
                "Thread safety violation: Failed to set thread count: Invalid argument: "
                "num_threads must be greater than 0");
    /* The error stays: these do not clear it. */
    CHECK(bitnet_get_num_threads() == 4);
    CHECK(bitnet_is_gpu_available() == 0);
    CHECK(bitnet_get_memory_usage() == 0);
    CHECK(bitnet_abi_version() == BITNET_ABI_VERSION);
    CHECK(bitnet_ffi_api_version() == 1);
    CHECK(bitnet_version() != NULL && bitnet_version()[0] != '\0');
    CHECK(bitnet_version() == bitnet_version());
    CHECK(bitnet_get_last_error() != NULL);
    bitnet_clear_last_error();
    CHECK(bitnet_get_last_error() == NULL);
}

static void utf8(void)
{
    static const char *const wrong[] = {
        "\x80", "\xC0\x80", "\xC1\xBF", "\xC3", "\xE0\x9F\xBF", "\xE2\x82", "\xED\xA0\x80",
        "\xF0\x8F\xBF\xBF", "\xF0\x9F\x99", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        WRONG(bitnet_model_load(wrong[i]), "Invalid UTF-8 in path: unexpected byte at index 0");
    /* What is valid passes the check and meets the missing interpreter. */
    CHECK(bitnet_model_load("\x7F \xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF"
                            "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF") == BITNET_ERROR_INTERNAL);
}

int main(void)
{
    model_calls();
    inference_calls();
    batch_calls();
    stream_calls();
    settings();
    utf8();
    return 0;
}
