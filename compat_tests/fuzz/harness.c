/* libFuzzer on the C ABI: model files, and prompts with settings. The first byte of an input says
 * what the rest is:
 *
 *   0  a whole file
 *   1  changes to the file of a good model, 5 bytes each: where (4, little-endian; even numbers
 *      within the header, odd ones anywhere), and the new byte
 *   2  a bitnet_inference_config_t, the size of the output, and a prompt, for the good model
 *
 * BITNET_FUZZ_MODEL names the good model. An answer must be a result or an error with its text;
 * anything else, as any crash, hang or growth, ends the run and saves the input. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bitnet.h"

enum { HEADER = 12000, OUTPUT = 256 };

static char scratch[] = "/tmp/bitnet-fuzz-XXXXXX";
static unsigned char *good;
static size_t good_size;
static int model;

static void require(int condition, const char *what)
{
    if (condition)
        return;
    const char *text = bitnet_get_last_error();
    fprintf(stderr, "not so: %s; last error: %s\n", what, text != NULL ? text : "none");
    abort();
}

static void remove_scratch(void)
{
    unlink(scratch);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    const char *path = getenv("BITNET_FUZZ_MODEL");
    require(path != NULL, "BITNET_FUZZ_MODEL is set");
    FILE *file = fopen(path, "rb");
    require(file != NULL && fseek(file, 0, SEEK_END) == 0, "the model can be read");
    good_size = (size_t)ftell(file);
    good = malloc(good_size);
    rewind(file);
    require(good != NULL && fread(good, 1, good_size, file) == good_size, "the model is read");
    fclose(file);
    require(mkstemp(scratch) >= 0, "there is room in /tmp");
    atexit(remove_scratch);
    model = bitnet_model_load(path);
    require(model == 0, "the good model loads");
    return 0;
}

static void require_answer(int code)
{
    const char *text = bitnet_get_last_error();
    if (code >= 0)
        require(text == NULL, "success leaves no error");
    else
        require(text != NULL && code > BITNET_ERROR_INTERNAL, "a failure is explained");
}

static void run(int id, const char *prompt, bitnet_inference_config_t config, size_t size)
{
    char output[OUTPUT + 1];
    memset(output, '#', sizeof output);
    if (config.max_new_tokens > 8)
        config.max_new_tokens = 8;
    int length = bitnet_inference_with_config(id, prompt, &config, output, size);
    require_answer(length);
    require(output[size] == '#', "the buffer was kept to");
    require(length < 0 ? output[0] == '#' : (size_t)length < size && output[length] == '\0',
            "the output ends or was not touched");
}

static void load(const unsigned char *content, size_t size)
{
    static const bitnet_inference_config_t config = BITNET_INFERENCE_CONFIG_INIT;
    FILE *file = fopen(scratch, "wb");
    require(file != NULL && fwrite(content, 1, size, file) == size && fclose(file) == 0,
            "the file is written");
    int id = bitnet_model_load(scratch);
    require_answer(id);
    if (id < 0)
        return;
    run(id, "Say", config, OUTPUT);
    require(bitnet_model_free(id) == BITNET_SUCCESS, "what was loaded is freed");
}

static void load_changed(const unsigned char *changes, size_t size)
{
    unsigned char *content = malloc(good_size);
    require(content != NULL, "there is memory");
    memcpy(content, good, good_size);
    for (size_t i = 0; i + 5 <= size; i += 5) {
        uint32_t at;
        memcpy(&at, changes + i, 4);
        size_t range = at % 2 == 0 && good_size > HEADER ? HEADER : good_size;
        content[(at / 2) % range] = changes[i + 4];
    }
    load(content, good_size);
    free(content);
}

static void infer(const unsigned char *data, size_t size)
{
    bitnet_inference_config_t config;
    if (size < sizeof config + 1)
        return;
    memcpy(&config, data, sizeof config);
    size_t output_size = data[sizeof config];
    size_t length = size - sizeof config - 1;
    char *prompt = malloc(length + 1);
    require(prompt != NULL, "there is memory");
    memcpy(prompt, data + sizeof config + 1, length);
    prompt[length] = '\0';
    run(model, prompt, config, output_size);
    free(prompt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    switch (data[0] % 3) {
    case 0:
        load(data + 1, size - 1);
        break;
    case 1:
        load_changed(data + 1, size - 1);
        break;
    default:
        infer(data + 1, size - 1);
    }
    return 0;
}
