/* The functions of bitnet_ext.h, but for the log, which is in settings.c. */
#include "host.h"
#include "internal.h"

/* A buffer that may be NULL when its size is 0, which asks for a length. */
static int check_optional(const void *buffer, const char *name, size_t size)
{
    return size == 0 ? 0 : bitnet_check_pointer(buffer, name);
}

static int check_flags(uint32_t flags, uint32_t known)
{
    return (flags & ~known) == 0 ? 0 : bitnet_refuse("flags has bits that mean nothing");
}

static const bitnet_inference_config_t *config_of(const bitnet_ext_request_t *request)
{
    static const bitnet_inference_config_t defaults = BITNET_INFERENCE_CONFIG_INIT;
    return request->config != NULL ? request->config : &defaults;
}

/* ---- Tokens ---- */

int bitnet_ext_context_length(int model_id)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_start());
    bitnet_host_context_length(model_id, &result);
    return bitnet_finish(result);
}

int bitnet_ext_tokenize(int model_id, const char *text, uint32_t flags, int32_t *ids,
                        size_t capacity)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_check_pointer(text, "text"));
    TRY(check_optional(ids, "ids", capacity));
    TRY(bitnet_check_utf8(text, "text"));
    TRY(check_flags(flags, BITNET_EXT_ADD_BOS | BITNET_EXT_PARSE_SPECIAL));
    TRY(bitnet_start());
    bitnet_host_tokenize(model_id, text, flags, ids, capacity, &result);
    return bitnet_finish(result);
}

int bitnet_ext_detokenize(int model_id, const int32_t *ids, size_t n_ids, uint32_t flags,
                          char *text, size_t max_len)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(check_optional(ids, "ids", n_ids));
    TRY(check_optional(text, "text", max_len));
    TRY(check_flags(flags, BITNET_EXT_SPELL_SPECIAL));
    TRY(bitnet_start());
    bitnet_host_detokenize(model_id, ids, n_ids, flags, text, max_len, &result);
    return bitnet_finish(result);
}

/* ---- Whole results ---- */

int bitnet_ext_generate(int model_id, const bitnet_ext_request_t *request)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_check_request(request));
    TRY(bitnet_start());
    bitnet_host_generate(model_id, request, config_of(request), &result);
    return bitnet_finish(result);
}

int bitnet_ext_result_get_info(int result_id, bitnet_ext_result_info_t *info)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(result_id, "result_id"));
    TRY(bitnet_check_pointer(info, "info"));
    TRY(bitnet_check_size(info->size, sizeof *info, "info"));
    TRY(bitnet_start());
    bitnet_host_result_get_info(result_id, info, &result);
    return bitnet_finish(result);
}

int bitnet_ext_result_text(int result_id, char *text, size_t max_len)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(result_id, "result_id"));
    TRY(check_optional(text, "text", max_len));
    TRY(bitnet_start());
    bitnet_host_result_text(result_id, text, max_len, &result);
    return bitnet_finish(result);
}

int bitnet_ext_result_token(int result_id, size_t index, bitnet_ext_token_t *token)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(result_id, "result_id"));
    TRY(bitnet_check_pointer(token, "token"));
    TRY(bitnet_check_size(token->size, sizeof *token, "token"));
    TRY(bitnet_start());
    bitnet_host_result_token(result_id, index, token, &result);
    return bitnet_finish(result);
}

int bitnet_ext_result_free(int result_id)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(result_id, "result_id"));
    TRY(bitnet_start());
    bitnet_host_result_free(result_id, &result);
    return bitnet_finish(result);
}

/* ---- Streams of tokens ---- */

int bitnet_ext_start_streaming(int model_id, const bitnet_ext_request_t *request,
                               const bitnet_stream_config_t *stream_config)
{
    static const bitnet_stream_config_t defaults = BITNET_STREAM_CONFIG_INIT;
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_check_request(request));
    TRY(bitnet_start());
    if (stream_config == NULL)
        stream_config = &defaults;
    bitnet_host_start_token_streaming(model_id, request, config_of(request), stream_config,
                                      &result);
    return bitnet_finish(result);
}

int bitnet_ext_stream_next(int stream_id, bitnet_ext_token_t *token, char *text, size_t max_len)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(stream_id, "stream_id"));
    TRY(bitnet_check_pointer(token, "token"));
    TRY(bitnet_check_size(token->size, sizeof *token, "token"));
    TRY(bitnet_check_buffer(text, "text", max_len));
    TRY(bitnet_start());
    bitnet_host_stream_next_token(stream_id, token, text, max_len, &result);
    return bitnet_finish(result);
}

/* ---- Cancellation ---- */

int bitnet_ext_cancellation_new(void)
{
    int result = bitnet_begin();
    TRY(bitnet_start());
    bitnet_host_cancellation_new(&result);
    return bitnet_finish(result);
}

int bitnet_ext_cancel(int cancellation_id)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(cancellation_id, "cancellation_id"));
    TRY(bitnet_start());
    bitnet_host_cancel(cancellation_id, &result);
    return bitnet_finish(result);
}

int bitnet_ext_cancellation_free(int cancellation_id)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(cancellation_id, "cancellation_id"));
    TRY(bitnet_start());
    bitnet_host_cancellation_free(cancellation_id, &result);
    return bitnet_finish(result);
}

/* ---- Numbers ---- */

int bitnet_ext_logits(int model_id, const int32_t *ids, size_t n_ids, float *logits,
                      size_t capacity)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_check_ids(ids, n_ids));
    TRY(bitnet_check_pointer(logits, "logits"));
    TRY(bitnet_start());
    bitnet_host_logits(model_id, ids, n_ids, logits, capacity, &result);
    return bitnet_finish(result);
}

int bitnet_ext_embeddings(int model_id, const int32_t *ids, size_t n_ids, uint32_t pooling,
                          float *embeddings, size_t capacity)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_check_ids(ids, n_ids));
    if (pooling > BITNET_EXT_POOLING_LAST)
        return bitnet_refuse("pooling must be 0 (none), 1 (mean), or 2 (last)");
    TRY(bitnet_check_pointer(embeddings, "embeddings"));
    TRY(bitnet_start());
    bitnet_host_embeddings(model_id, ids, n_ids, pooling, embeddings, capacity, &result);
    return bitnet_finish(result);
}
