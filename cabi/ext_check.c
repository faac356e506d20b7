/* Checks of the arguments of bitnet_ext.h. */
#include <limits.h>
#include <stdio.h>

#include "internal.h"

int bitnet_check_size(size_t size, size_t known, const char *name)
{
    if (size >= known)
        return 0;
    return bitnet_fail(BITNET_ERROR_INVALID_ARGUMENT, "%s.size must be at least %zu, not %zu",
                       name, known, size);
}

int bitnet_check_ids(const int32_t *ids, size_t n_ids)
{
    TRY(bitnet_check_pointer(ids, "ids"));
    if (n_ids == 0)
        return bitnet_refuse("n_ids must be greater than 0");
    return n_ids <= INT_MAX ? 0 : bitnet_refuse("n_ids is too large");
}

/* One of the strings of an array, as in stop[3]. */
static int check_element(const char *text, const char *array, size_t i, const char *field)
{
    char name[64];
    snprintf(name, sizeof name, "%s[%zu]%s", array, i, field);
    TRY(bitnet_check_pointer(text, name));
    return bitnet_check_utf8(text, name);
}

static int check_messages(const bitnet_ext_message_t *messages, size_t n)
{
    if (n == 0)
        return bitnet_refuse("n_messages must be greater than 0");
    for (size_t i = 0; i < n; i++) {
        TRY(check_element(messages[i].role, "messages", i, ".role"));
        TRY(check_element(messages[i].content, "messages", i, ".content"));
    }
    return 0;
}

static int check_stop(const char *const *stop, size_t n)
{
    if (n == 0)
        return 0;
    TRY(bitnet_check_pointer(stop, "stop"));
    for (size_t i = 0; i < n; i++) {
        TRY(check_element(stop[i], "stop", i, ""));
        if (stop[i][0] == '\0')
            return bitnet_fail(BITNET_ERROR_INVALID_ARGUMENT, "stop[%zu] cannot be empty", i);
    }
    return 0;
}

static int check_input(const bitnet_ext_request_t *request)
{
    int n = (request->prompt != NULL) + (request->messages != NULL) + (request->ids != NULL);
    if (n != 1)
        return bitnet_refuse("exactly one of prompt, messages and ids must be set");
    if (request->prompt != NULL)
        return bitnet_check_utf8(request->prompt, "prompt");
    if (request->messages != NULL)
        return check_messages(request->messages, request->n_messages);
    return bitnet_check_ids(request->ids, request->n_ids);
}

int bitnet_check_request(const bitnet_ext_request_t *request)
{
    TRY(bitnet_check_pointer(request, "request"));
    TRY(bitnet_check_size(request->size, sizeof *request, "request"));
    if (request->size > sizeof *request)
        return bitnet_fail(BITNET_ERROR_UNSUPPORTED_OPERATION,
                           "request.size is %zu, and this library knows only %zu bytes of it",
                           request->size, sizeof *request);
    TRY(check_input(request));
    if (request->config != NULL)
        TRY(bitnet_check_inference_config(request->config));
    TRY(check_stop(request->stop, request->n_stop));
    if (!(request->min_p >= 0 && request->min_p <= 1))
        return bitnet_refuse("min_p must be between 0.0 and 1.0");
    if (request->logprobs > BITNET_EXT_MAX_LOGPROBS)
        return bitnet_refuse("logprobs must be at most 20");
    if (request->cancellation < -1)
        return bitnet_refuse("cancellation must be an id or -1");
    return 0;
}
