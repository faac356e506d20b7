/* Loads a model, runs it, fails a little and frees it, again and again: for checkers of memory.
 * Arguments: a model, how many times, new tokens each time. */
#include "check.h"

static void fail_a_little(int model)
{
    char output[8];
    CHECK(bitnet_model_load("/no/such/model") == BITNET_ERROR_MODEL_NOT_FOUND);
    CHECK(bitnet_get_last_error() != NULL);
    CHECK(bitnet_inference(model, "\xFF", output, 8) == BITNET_ERROR_INVALID_ARGUMENT);
    CHECK(bitnet_inference(model + 1, "x", output, 8) == BITNET_ERROR_INVALID_MODEL_ID);
}

static void stream(int model, const bitnet_inference_config_t *config)
{
    char piece[32];
    int length;
    bitnet_stream_config_t settings = BITNET_STREAM_CONFIG_INIT;
    int id = bitnet_start_streaming(model, "Once", config, &settings);
    CHECK(id >= 0);
    while ((length = bitnet_stream_next_token(id, piece, sizeof piece)) > 0)
        CHECK((int)strlen(piece) == length);
    CHECK(length == 0);
    CHECK(bitnet_stop_streaming(id) == BITNET_SUCCESS);
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    for (int cycle = 0; cycle < atoi(argv[2]); cycle++) {
        const char *prompts[] = {"Once", "The cat"};
        char output[256], other[256];
        char *outputs[] = {output, other};
        size_t sizes[] = {sizeof output, sizeof other};
        bitnet_model_t info;
        bitnet_inference_config_t config = BITNET_INFERENCE_CONFIG_INIT;
        config.max_new_tokens = (uint32_t)atoi(argv[3]);
        int model = bitnet_model_load(argv[1]);
        CHECK(model == cycle);
        CHECK(bitnet_model_get_info(model, &info) == BITNET_SUCCESS && strlen(info.name) > 0);
        CHECK(bitnet_inference_with_config(model, "Once", &config, output, sizeof output) > 0);
        CHECK(bitnet_batch_inference(model, prompts, 2, &config, outputs, sizes) == 2);
        stream(model, &config);
        fail_a_little(model);
        CHECK(bitnet_model_free(model) == BITNET_SUCCESS);
    }
    CHECK(bitnet_cleanup() == BITNET_SUCCESS);
    return 0;
}
