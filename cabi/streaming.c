/* Streaming: pieces of text as they come. */
#include "host.h"
#include "internal.h"

int bitnet_start_streaming(int model_id, const char *prompt,
                           const bitnet_inference_config_t *config,
                           const bitnet_stream_config_t *stream_config)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_check_pointer(prompt, "prompt"));
    TRY(bitnet_check_pointer(config, "config"));
    TRY(bitnet_check_pointer(stream_config, "stream_config"));
    TRY(bitnet_check_utf8(prompt, "prompt"));
    TRY(bitnet_check_inference_config(config));
    TRY(bitnet_start());
    bitnet_host_start_streaming(model_id, prompt, config, stream_config, &result);
    return bitnet_finish(result);
}

/* The callback is called from here, where no lock of the library and not the GIL is held. It may
 * stop its own stream, which is then unknown to end_stream, and may leave an error behind. */
static void call_back(int stream_id, const char *token, bitnet_stream_callback_t callback,
                      void *user_data)
{
    int ended = BITNET_ERROR_INTERNAL;
    if (callback(token, user_data) != 0)
        bitnet_host_end_stream(stream_id, &ended);
    bitnet_clear_last_error();
}

int bitnet_stream_next_token(int stream_id, char *token, size_t max_len)
{
    int result = bitnet_begin();
    bitnet_stream_callback_t callback = NULL;
    void *user_data = NULL;
    TRY(bitnet_check_id(stream_id, "stream_id"));
    TRY(bitnet_check_buffer(token, "token", max_len));
    TRY(bitnet_start());
    bitnet_host_stream_next(stream_id, token, max_len, &callback, &user_data, &result);
    if (result > 0 && callback != NULL)
        call_back(stream_id, token, callback, user_data);
    return bitnet_finish(result);
}

int bitnet_stop_streaming(int stream_id)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(stream_id, "stream_id"));
    TRY(bitnet_start());
    bitnet_host_stop_streaming(stream_id, &result);
    return bitnet_finish(result);
}
