/* What bitnet_ext.h adds, used together. Arguments: the model of tiny_model.py, the text it says,
 * how many tokens that is. */
#include <pthread.h>

#include "bitnet_ext.h"
#include "check.h"

static bitnet_inference_config_t greedy = BITNET_INFERENCE_CONFIG_INIT;
static const char *text;

static void whole_text_and_tokens(int model, uint32_t n_tokens)
{
    bitnet_ext_request_t request = BITNET_EXT_REQUEST_INIT;
    bitnet_ext_result_info_t info = {sizeof info, 0, 0, 0, 0, 0, 0};
    bitnet_ext_token_t token = {sizeof token, 0, 0, 0, 0, {{0, 0}}};
    int32_t ids[16];
    char output[100], again[100];
    request.prompt = "Say";
    request.config = &greedy;
    request.logprobs = 2;
    int result = bitnet_ext_generate(model, &request);
    CHECK(result >= 0);
    CHECK(bitnet_ext_result_get_info(result, &info) == BITNET_SUCCESS);
    CHECK(info.finish_reason == BITNET_EXT_FINISH_STOP && info.prompt_tokens == 3);
    CHECK(info.tokens_generated == n_tokens && info.text_length == strlen(text));
    CHECK(bitnet_ext_result_text(result, NULL, 0) == (int)strlen(text));
    CHECK(bitnet_ext_result_text(result, output, sizeof output) == (int)strlen(text));
    CHECK(strcmp(output, text) == 0);
    for (uint32_t i = 0; i < n_tokens; i++) {
        CHECK(bitnet_ext_result_token(result, i, &token) == BITNET_SUCCESS);
        CHECK(token.n_top == 2 && token.top[0].id == token.id && token.logprob <= 0);
        ids[i] = token.id;
    }
    CHECK(bitnet_ext_detokenize(model, ids, n_tokens, 0, again, sizeof again) ==
          (int)strlen(text));
    CHECK(strcmp(again, text) == 0);
    CHECK(bitnet_ext_result_free(result) == BITNET_SUCCESS);
    CHECK_FAILS(bitnet_ext_result_free(result), BITNET_ERROR_INVALID_ARGUMENT,
                "Invalid argument: Result ID 0 not found");
}

static void token_stream(int model, uint32_t n_tokens)
{
    bitnet_ext_request_t request = BITNET_EXT_REQUEST_INIT;
    bitnet_ext_token_t token = {sizeof token, 0, 0, 0, 0, {{0, 0}}};
    int32_t ids[8];
    char piece[32], output[100] = "";
    uint32_t n = 0;
    request.n_ids = (size_t)bitnet_ext_tokenize(model, "Say", 0, ids, 8);
    request.ids = ids;
    request.config = &greedy;
    int stream = bitnet_ext_start_streaming(model, &request, NULL);
    CHECK(stream >= 0);
    while (bitnet_ext_stream_next(stream, &token, piece, sizeof piece) == 1) {
        CHECK(token.text_length == strlen(piece));
        strcat(output, piece);
        n++;
    }
    CHECK(bitnet_get_last_error() == NULL);
    CHECK(n == n_tokens && strcmp(output, text) == 0);
    CHECK(bitnet_stop_streaming(stream) == BITNET_SUCCESS);
}

static int handle;

static void *cancel(void *unused)
{
    (void)unused;
    CHECK(bitnet_ext_cancel(handle) == BITNET_SUCCESS);
    return NULL;
}

static void cancelled_by_another_thread(int model)
{
    pthread_t thread;
    char piece[32];
    bitnet_ext_request_t request = BITNET_EXT_REQUEST_INIT;
    handle = bitnet_ext_cancellation_new();
    request.prompt = "Say";
    request.config = &greedy;
    request.cancellation = handle;
    int stream = bitnet_ext_start_streaming(model, &request, NULL);
    CHECK(bitnet_stream_next_token(stream, piece, sizeof piece) > 0);
    CHECK(pthread_create(&thread, NULL, cancel, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(bitnet_stream_next_token(stream, piece, sizeof piece) == 0);
    CHECK(bitnet_stop_streaming(stream) == BITNET_SUCCESS);
    CHECK(bitnet_ext_cancellation_free(handle) == BITNET_SUCCESS);
}

static void numbers(int model)
{
    enum { MOST = 4096 };
    static float rows[2 * MOST], pooled[MOST];
    bitnet_model_t info;
    int32_t ids[] = {65, 66};
    CHECK(bitnet_model_get_info(model, &info) == BITNET_SUCCESS);
    CHECK(info.vocab_size <= MOST && info.hidden_size <= MOST);
    CHECK(bitnet_ext_logits(model, ids, 2, rows, 2 * info.vocab_size) == BITNET_SUCCESS);
    CHECK(bitnet_ext_embeddings(model, ids, 2, BITNET_EXT_POOLING_NONE, rows, 2 * MOST) == 0);
    CHECK(bitnet_ext_embeddings(model, ids, 2, BITNET_EXT_POOLING_LAST, pooled, MOST) == 0);
    CHECK(memcmp(pooled, rows + info.hidden_size, info.hidden_size * sizeof *rows) == 0);
    CHECK(bitnet_ext_logits(model, ids, 2, rows, 1) == BITNET_ERROR_INVALID_ARGUMENT);
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    text = argv[2];
    greedy.do_sample = 0;
    greedy.repetition_penalty = 1;
    int model = bitnet_model_load(argv[1]);
    CHECK(model >= 0 && bitnet_ext_context_length(model) > 0);
    whole_text_and_tokens(model, (uint32_t)atoi(argv[3]));
    token_stream(model, (uint32_t)atoi(argv[3]));
    cancelled_by_another_thread(model);
    numbers(model);
    CHECK(bitnet_model_free(model) == BITNET_SUCCESS);
    return 0;
}
