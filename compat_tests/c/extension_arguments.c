/* Every wrong argument of bitnet_ext.h, in the order in which they are checked. Run where Python
 * cannot start: a check that came too late would return BITNET_ERROR_INTERNAL. */
#include <math.h>

#include "bitnet_ext.h"
#include "check.h"

#define WRONG(call, text) \
    CHECK_FAILS(call, BITNET_ERROR_INVALID_ARGUMENT, "Invalid argument: " text)
#define PASSES(call) CHECK(call == BITNET_ERROR_INTERNAL)

static const char bad[] = "a\xC3(";

static void tokens(void)
{
    int32_t ids[4] = {0};
    char text[4];
    WRONG(bitnet_ext_context_length(-1), "model_id must be non-negative");
    WRONG(bitnet_ext_tokenize(-1, NULL, 4, NULL, 1), "model_id must be non-negative");
    WRONG(bitnet_ext_tokenize(0, NULL, 4, NULL, 1), "text cannot be null");
    WRONG(bitnet_ext_tokenize(0, bad, 4, NULL, 1), "ids cannot be null");
    WRONG(bitnet_ext_tokenize(0, bad, 4, NULL, 0),
          "Invalid UTF-8 in text: unexpected byte at index 1");
    WRONG(bitnet_ext_tokenize(0, "x", 4, ids, 4), "flags has bits that mean nothing");
    PASSES(bitnet_ext_tokenize(0, "x", BITNET_EXT_ADD_BOS | BITNET_EXT_PARSE_SPECIAL, NULL, 0));
    WRONG(bitnet_ext_detokenize(-1, NULL, 1, 2, NULL, 1), "model_id must be non-negative");
    WRONG(bitnet_ext_detokenize(0, NULL, 1, 2, NULL, 1), "ids cannot be null");
    WRONG(bitnet_ext_detokenize(0, ids, 1, 2, NULL, 1), "text cannot be null");
    WRONG(bitnet_ext_detokenize(0, ids, 1, 2, text, 1), "flags has bits that mean nothing");
    PASSES(bitnet_ext_detokenize(0, NULL, 0, 0, NULL, 0));
}

static int ask(const bitnet_ext_request_t *request)
{
    return bitnet_ext_generate(0, request);
}

static void inputs(void)
{
    bitnet_ext_message_t messages[] = {{"user", "hi"}, {NULL, "hi"}};
    int32_t ids[] = {1};
    bitnet_ext_request_t request = BITNET_EXT_REQUEST_INIT;
    WRONG(bitnet_ext_generate(-1, NULL), "model_id must be non-negative");
    WRONG(ask(NULL), "request cannot be null");
    WRONG(ask(&request), "exactly one of prompt, messages and ids must be set");
    request.prompt = bad;
    request.ids = ids;
    WRONG(ask(&request), "exactly one of prompt, messages and ids must be set");
    request.ids = NULL;
    WRONG(ask(&request), "Invalid UTF-8 in prompt: unexpected byte at index 1");
    request.prompt = NULL;
    request.ids = ids;
    WRONG(ask(&request), "n_ids must be greater than 0");
    request.n_ids = (size_t)-1;
    WRONG(ask(&request), "n_ids is too large");
    request.ids = NULL;
    request.messages = messages;
    WRONG(ask(&request), "n_messages must be greater than 0");
    request.n_messages = 2;
    WRONG(ask(&request), "messages[1].role cannot be null");
    messages[1].role = "user";
    messages[1].content = bad;
    WRONG(ask(&request), "Invalid UTF-8 in messages[1].content: unexpected byte at index 1");
    messages[1].content = "";
    PASSES(ask(&request));
}

static void settings(void)
{
    const char *stop[] = {"end", "", NULL};
    bitnet_inference_config_t config = {0};
    bitnet_ext_request_t request = BITNET_EXT_REQUEST_INIT;
    request.prompt = "x";
    request.config = &config;
    request.n_stop = 3;
    request.min_p = NAN;
    request.logprobs = 21;
    request.cancellation = -2;
    request.size = sizeof request - 1;
    CHECK(ask(&request) == BITNET_ERROR_INVALID_ARGUMENT);
    CHECK(strstr(bitnet_get_last_error(), "request.size must be at least ") != NULL);
    request.size = sizeof request + 8;
    CHECK(ask(&request) == BITNET_ERROR_UNSUPPORTED_OPERATION);
    request.size = sizeof request;
    WRONG(ask(&request), "max_length must be greater than 0");
    request.config = NULL;
    WRONG(ask(&request), "stop cannot be null");
    request.stop = stop;
    WRONG(ask(&request), "stop[1] cannot be empty");
    stop[1] = "stop";
    WRONG(ask(&request), "stop[2] cannot be null");
    request.n_stop = 2;
    WRONG(ask(&request), "min_p must be between 0.0 and 1.0");
    request.min_p = 1;
    WRONG(ask(&request), "logprobs must be at most 20");
    request.logprobs = BITNET_EXT_MAX_LOGPROBS;
    WRONG(ask(&request), "cancellation must be an id or -1");
    request.cancellation = 0;
    PASSES(ask(&request));
    WRONG(bitnet_ext_start_streaming(0, NULL, NULL), "request cannot be null");
    PASSES(bitnet_ext_start_streaming(0, &request, NULL));
}

static void answers(void)
{
    char text[4];
    bitnet_ext_token_t token = {sizeof token - 1, 0, 0, 0, 0, {{0, 0}}};
    bitnet_ext_result_info_t info = {0, 0, 0, 0, 0, 0, 0};
    WRONG(bitnet_ext_result_get_info(-1, NULL), "result_id must be non-negative");
    WRONG(bitnet_ext_result_get_info(0, NULL), "info cannot be null");
    CHECK(bitnet_ext_result_get_info(0, &info) == BITNET_ERROR_INVALID_ARGUMENT);
    WRONG(bitnet_ext_result_text(0, NULL, 1), "text cannot be null");
    WRONG(bitnet_ext_result_token(0, 0, NULL), "token cannot be null");
    CHECK(bitnet_ext_result_token(0, 0, &token) == BITNET_ERROR_INVALID_ARGUMENT);
    WRONG(bitnet_ext_result_free(-1), "result_id must be non-negative");
    WRONG(bitnet_ext_stream_next(-1, NULL, NULL, 0), "stream_id must be non-negative");
    WRONG(bitnet_ext_stream_next(0, NULL, NULL, 0), "token cannot be null");
    CHECK(bitnet_ext_stream_next(0, &token, NULL, 0) == BITNET_ERROR_INVALID_ARGUMENT);
    token.size = sizeof token + 100; /* of a later version: what is known is filled */
    WRONG(bitnet_ext_stream_next(0, &token, NULL, 0), "text cannot be null");
    WRONG(bitnet_ext_stream_next(0, &token, text, 0), "max_len must be greater than 0");
    PASSES(bitnet_ext_stream_next(0, &token, text, sizeof text));
    WRONG(bitnet_ext_cancel(-1), "cancellation_id must be non-negative");
    WRONG(bitnet_ext_cancellation_free(-1), "cancellation_id must be non-negative");
}

static void numbers(void)
{
    int32_t ids[] = {1};
    float out[4];
    WRONG(bitnet_ext_logits(-1, NULL, 0, NULL, 0), "model_id must be non-negative");
    WRONG(bitnet_ext_logits(0, NULL, 0, NULL, 0), "ids cannot be null");
    WRONG(bitnet_ext_logits(0, ids, 0, NULL, 0), "n_ids must be greater than 0");
    WRONG(bitnet_ext_logits(0, ids, 1, NULL, 0), "logits cannot be null");
    WRONG(bitnet_ext_embeddings(0, ids, 1, 3, NULL, 0),
          "pooling must be 0 (none), 1 (mean), or 2 (last)");
    WRONG(bitnet_ext_embeddings(0, ids, 1, 2, NULL, 0), "embeddings cannot be null");
    PASSES(bitnet_ext_embeddings(0, ids, 1, 2, out, 4));
}

static void ignore(uint32_t level, const char *message, void *user_data)
{
    (void)level;
    (void)message;
    (void)user_data;
}

int main(void)
{
    tokens();
    inputs();
    settings();
    answers();
    numbers();
    WRONG(bitnet_ext_set_log_callback(ignore, NULL, 4),
          "level must be 0 (error), 1 (warning), 2 (info), or 3 (debug)");
    CHECK(bitnet_ext_set_log_callback(ignore, NULL, 3) == BITNET_SUCCESS);
    CHECK(bitnet_ext_set_log_callback(NULL, NULL, 0) == BITNET_SUCCESS);
    CHECK(bitnet_ext_version() == BITNET_EXT_VERSION);
    return 0;
}
