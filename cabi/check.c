/* Checks of arguments that need no interpreter. */
#include <string.h>

#include "internal.h"

/* Bytes of the character that starts with this byte; 0 if no character does. */
static size_t utf8_length(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first >= 0xC2 && first <= 0xDF)
        return 2;
    if (first >= 0xE0 && first <= 0xEF)
        return 3;
    if (first >= 0xF0 && first <= 0xF4)
        return 4;
    return 0;
}

/* The second byte has a narrower range after four of the first bytes: it keeps out overlong
 * forms, surrogates and everything above U+10FFFF. */
static int utf8_second_is_valid(unsigned char first, unsigned char second)
{
    unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    return second >= low && second <= high;
}

/* Bytes of the valid character at text, which ends with a NUL; 0 if it is not one. */
static size_t utf8_character(const unsigned char *text)
{
    size_t length = utf8_length(text[0]);
    if (length > 1 && !utf8_second_is_valid(text[0], text[1]))
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    return length;
}

/* Returns the index of the first byte that is wrong, or -1. */
static long long utf8_error(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at != '\0') {
        size_t length = utf8_character(at);
        if (length == 0)
            return at - (const unsigned char *)text;
        at += length;
    }
    return -1;
}

size_t bitnet_utf8_cut(const char *text, size_t length)
{
    size_t start = length;
    while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start == 0)
        return length;
    return start - 1 + utf8_length((unsigned char)text[start - 1]) > length ? start - 1 : length;
}

int bitnet_check_id(int id, const char *name)
{
    if (id >= 0)
        return 0;
    return bitnet_fail(BITNET_ERROR_INVALID_ARGUMENT, "%s must be non-negative", name);
}

int bitnet_check_pointer(const void *pointer, const char *name)
{
    if (pointer != NULL)
        return 0;
    return bitnet_fail(BITNET_ERROR_INVALID_ARGUMENT, "%s cannot be null", name);
}

int bitnet_check_buffer(const void *buffer, const char *name, size_t max_len)
{
    TRY(bitnet_check_pointer(buffer, name));
    return max_len > 0 ? 0 : bitnet_refuse("max_len must be greater than 0");
}

int bitnet_check_utf8(const char *text, const char *name)
{
    long long at = utf8_error(text);
    if (at < 0)
        return 0;
    return bitnet_fail(BITNET_ERROR_INVALID_ARGUMENT,
                       "Invalid UTF-8 in %s: unexpected byte at index %lld", name, at);
}

int bitnet_check_backend(uint32_t backend_preference)
{
    if (backend_preference <= BITNET_BACKEND_GPU)
        return 0;
    return bitnet_refuse("backend_preference must be 0 (auto), 1 (cpu), or 2 (gpu)");
}

int bitnet_check_config(const bitnet_config_t *config)
{
    if (config->model_format > BITNET_FORMAT_HUGGINGFACE)
        return bitnet_refuse("model_format must be 0 (gguf), 1 (safetensors), or 2 (huggingface)");
    if (config->quantization_type > BITNET_QUANT_TL2)
        return bitnet_refuse("quantization_type must be 0 (i2_s), 1 (tl1), or 2 (tl2)");
    if (config->num_threads > BITNET_MAX_THREADS)
        return bitnet_refuse("num_threads must be at most 1024");
    return 0;
}

/* Conditions are written so that a NaN fails them. */
int bitnet_check_inference_config(const bitnet_inference_config_t *config)
{
    if (config->max_length == 0)
        return bitnet_refuse("max_length must be greater than 0");
    if (config->max_new_tokens == 0)
        return bitnet_refuse("max_new_tokens must be greater than 0");
    if (!(config->temperature > 0))
        return bitnet_refuse("temperature must be greater than 0");
    if (!(config->top_p >= 0 && config->top_p <= 1))
        return bitnet_refuse("top_p must be between 0.0 and 1.0");
    if (!(config->repetition_penalty > 0))
        return bitnet_refuse("repetition_penalty must be greater than 0");
    if (bitnet_check_backend(config->backend_preference))
        return BITNET_ERROR_INVALID_ARGUMENT;
    if (config->stream_buffer_size == 0)
        return bitnet_refuse("stream_buffer_size must be greater than 0");
    if (config->backend_preference == BITNET_BACKEND_GPU)
        return bitnet_require_gpu("backend_preference");
    return 0;
}
