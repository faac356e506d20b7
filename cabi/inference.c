/* Inference: one prompt, or several at once. */
#include <stdio.h>

#include "host.h"
#include "internal.h"

static int infer(int model_id, const char *prompt, const bitnet_inference_config_t *config,
                 char *output, size_t max_len)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_check_pointer(prompt, "prompt"));
    TRY(bitnet_check_pointer(config, "config"));
    TRY(bitnet_check_buffer(output, "output", max_len));
    TRY(bitnet_check_utf8(prompt, "prompt"));
    TRY(bitnet_check_inference_config(config));
    TRY(bitnet_start());
    bitnet_host_inference(model_id, prompt, config, output, max_len, &result);
    return bitnet_finish(result);
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

static int check_batch_item(const char *prompt, const char *output, size_t max_len, size_t i)
{
    char name[40];
    if (prompt == NULL)
        return bitnet_fail(BITNET_ERROR_INVALID_ARGUMENT, "prompt[%zu] cannot be null", i);
    if (output == NULL)
        return bitnet_fail(BITNET_ERROR_INVALID_ARGUMENT, "output[%zu] cannot be null", i);
    if (max_len == 0)
        return bitnet_fail(BITNET_ERROR_INVALID_ARGUMENT, "max_lens[%zu] must be greater than 0",
                           i);
    snprintf(name, sizeof name, "prompt[%zu]", i);
    return bitnet_check_utf8(prompt, name);
}

int bitnet_batch_inference(int model_id, const char **prompts, size_t num_prompts,
                           const bitnet_inference_config_t *config, char **outputs,
                           size_t *max_lens)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_check_pointer(prompts, "prompts"));
    TRY(bitnet_check_pointer(outputs, "outputs"));
    TRY(bitnet_check_pointer(max_lens, "max_lens"));
    TRY(bitnet_check_pointer(config, "config"));
    if (num_prompts == 0)
        return bitnet_refuse("num_prompts must be greater than 0");
    TRY(bitnet_check_inference_config(config));
    for (size_t i = 0; i < num_prompts; i++)
        TRY(check_batch_item(prompts[i], outputs[i], max_lens[i], i));
    TRY(bitnet_start());
    bitnet_host_batch_inference(model_id, prompts, num_prompts, config, outputs, max_lens,
                                &result);
    return bitnet_finish(result);
}
