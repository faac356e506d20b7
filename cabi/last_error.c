/* The last error of each thread.
 *
 * It lives in C so that it works before Python runs, and when Python cannot run. Two buffers a
 * thread: `current` is what the next bitnet_get_last_error() shows; `shown` is what the previous
 * one handed out, which stays valid while other calls change `current`. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"
#include "report.h"

static BITNET_THREAD_LOCAL char current[BITNET_ERROR_TEXT_SIZE];
static BITNET_THREAD_LOCAL char shown[BITNET_ERROR_TEXT_SIZE];

static const char *prefix(int code)
{
    switch (code) {
    case BITNET_ERROR_INVALID_ARGUMENT:
        return "Invalid argument: ";
    case BITNET_ERROR_MODEL_NOT_FOUND:
        return "Model not found: ";
    case BITNET_ERROR_MODEL_LOAD_FAILED:
        return "Model loading failed: ";
    case BITNET_ERROR_INFERENCE_FAILED:
        return "Inference failed: ";
    case BITNET_ERROR_OUT_OF_MEMORY:
        return "Out of memory: ";
    case BITNET_ERROR_THREAD_SAFETY:
        return "Thread safety violation: ";
    case BITNET_ERROR_INVALID_MODEL_ID:
        return "Invalid model ID: ";
    case BITNET_ERROR_CONTEXT_LENGTH_EXCEEDED:
        return "Context length exceeded: ";
    case BITNET_ERROR_UNSUPPORTED_OPERATION:
        return "Unsupported operation: ";
    default:
        return "Internal error: ";
    }
}

void bitnet_report_error(int code, const char *text, size_t length)
{
    size_t used = strlen(prefix(code));
    memcpy(current, prefix(code), used);
    for (size_t i = 0; i < length && used + 2 < sizeof current; i++) {
        if (text[i] == '\0') {
            current[used++] = '\\';
            current[used++] = '0';
        } else {
            current[used++] = text[i];
        }
    }
    current[bitnet_utf8_cut(current, used)] = '\0';
}

int bitnet_fail(int code, const char *format, ...)
{
    char text[BITNET_ERROR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(text, sizeof text, format, arguments) < 0)
        text[0] = '\0';
    va_end(arguments);
    bitnet_report_error(code, text, strlen(text));
    return code;
}

int bitnet_refuse(const char *text)
{
    return bitnet_fail(BITNET_ERROR_INVALID_ARGUMENT, "%s", text);
}

int bitnet_has_error(void)
{
    return current[0] != '\0';
}

const char *bitnet_get_last_error(void)
{
    if (!bitnet_has_error())
        return NULL;
    memcpy(shown, current, strlen(current) + 1);
    return shown;
}

void bitnet_clear_last_error(void)
{
    current[0] = '\0';
}
