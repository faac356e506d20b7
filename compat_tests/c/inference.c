/* A real model in a plain C process. Arguments: the model of tiny_model.py, the text it says, the
 * size of its context. */
#include "check.h"

static const bitnet_inference_config_t greedy = {64, 64, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1};

/* Bytes of the longest start of text that fits size - 1 bytes in whole characters. */
static int whole_characters(const char *text, size_t size)
{
    size_t length = strlen(text) < size ? strlen(text) : size - 1;
    while (((unsigned char)text[length] & 0xC0) == 0x80)
        length--;
    return (int)length;
}

static void every_buffer_size(int model, const char *text)
{
    char output[80];
    for (size_t size = 1; size <= strlen(text) + 2; size++) {
        memset(output, '#', sizeof output);
        int expected = whole_characters(text, size);
        CHECK(bitnet_inference_with_config(model, "Say", &greedy, output, size) == expected);
        CHECK(bitnet_get_last_error() == NULL);
        CHECK(memcmp(output, text, (size_t)expected) == 0 && output[expected] == '\0');
        for (size_t i = size; i < sizeof output; i++)
            CHECK(output[i] == '#');
    }
}

static void limits(int model, int context)
{
    char output[80] = "kept", prompt[256];
    bitnet_inference_config_t config = greedy;
    config.max_new_tokens = 2;
    CHECK(bitnet_inference_with_config(model, "Say", &config, output, sizeof output) == 12);
    config = greedy; /* "Say" has three tokens, so one more makes four */
    config.max_length = 4;
    CHECK(bitnet_inference_with_config(model, "Say", &config, output, sizeof output) == 6);
    strcpy(output, "kept");
    config.max_length = 3;
    CHECK_FAILS(bitnet_inference_with_config(model, "Say", &config, output, sizeof output),
                BITNET_ERROR_CONTEXT_LENGTH_EXCEEDED,
                "Context length exceeded: a prompt of 3 tokens leaves no room in max_length of 3");
    memset(prompt, 'x', (size_t)context);
    prompt[context] = '\0';
    config.max_length = 1000;
    CHECK(bitnet_inference_with_config(model, prompt, &config, output, sizeof output) ==
          BITNET_ERROR_CONTEXT_LENGTH_EXCEEDED);
    CHECK(strcmp(output, "kept") == 0);
    prompt[context - 1] = '\0';
    CHECK(bitnet_inference_with_config(model, prompt, &config, output, sizeof output) == 6);
    config.backend_preference = BITNET_BACKEND_GPU;
    CHECK(bitnet_inference_with_config(model, "Say", &config, output, sizeof output) ==
          BITNET_ERROR_UNSUPPORTED_OPERATION);
}

/* Ids count from 0, are not spent by failures, and die for good. */
static void ids(const char *path)
{
    char output[8];
    CHECK(bitnet_model_load("/no/such/model") == BITNET_ERROR_MODEL_NOT_FOUND);
    CHECK(bitnet_model_load(path) == 1);
    CHECK(bitnet_model_is_loaded(1) == 1 && bitnet_model_is_loaded(2) == 0);
    CHECK(bitnet_model_free(1) == BITNET_SUCCESS);
    CHECK(bitnet_model_is_loaded(1) == 0);
    CHECK_FAILS(bitnet_model_free(1), BITNET_ERROR_INVALID_MODEL_ID,
                "Invalid model ID: Model ID 1 not found");
    CHECK_FAILS(bitnet_inference(1, "x", output, sizeof output), BITNET_ERROR_INVALID_MODEL_ID,
                "Invalid model ID: Model ID 1 not found");
    CHECK(bitnet_model_load(path) == 2);
    CHECK(bitnet_cleanup() == BITNET_SUCCESS); /* does not free models */
    CHECK(bitnet_model_is_loaded(2) == 1);
    CHECK(bitnet_model_free(2) == BITNET_SUCCESS);
}

int main(int argc, char **argv)
{
    char output[80];
    CHECK(argc == 4);
    int model = bitnet_model_load(argv[1]);
    CHECK(model == 0);
    CHECK(bitnet_get_last_error() == NULL);
    CHECK(bitnet_inference(model, "Say", output, sizeof output) == (int)strlen(argv[2]));
    CHECK(strcmp(output, argv[2]) == 0);
    every_buffer_size(model, argv[2]);
    limits(model, atoi(argv[3]));
    ids(argv[1]);
    CHECK(bitnet_model_free(model) == BITNET_SUCCESS);
    return 0;
}
