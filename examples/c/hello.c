/*
 * hello.c - tell a story that begins with "Once upon a time".
 *
 *     ./hello                      as told by the model that comes with bitnet
 *     ./hello path/to/model.gguf   as told by a model of yours
 *
 * It prints what this command prints:
 *
 *     bitnet run -p "Once upon a time" -n 80 --temperature 0
 */
#include <stdio.h>
#include <stdlib.h>

#include "bitnet.h"

#ifndef BITNET_BUNDLED_MODEL
#  error "-DBITNET_BUNDLED_MODEL='\"PATH\"' is missing; bitnet-config --model tells the path"
#endif

static int fail(const char *what)
{
    fprintf(stderr, "hello: cannot %s: %s\n", what, bitnet_get_last_error());
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : BITNET_BUNDLED_MODEL;
    char story[4096];

    if (bitnet_abi_version() != BITNET_ABI_VERSION) {
        fprintf(stderr, "hello: libbitnet %s does not fit this program\n", bitnet_version());
        return EXIT_FAILURE;
    }

    int model = bitnet_model_load(path);
    if (model < 0)
        return fail("load the model");

    /* The most likely words, so that it is the same story every time. */
    bitnet_inference_config_t config = BITNET_INFERENCE_CONFIG_INIT;
    config.do_sample = 0;
    config.repetition_penalty = 1.0f;
    config.max_new_tokens = 80;

    if (bitnet_inference_with_config(model, "Once upon a time", &config, story, sizeof story) < 0)
        return fail("tell the story");
    puts(story);

    if (bitnet_model_free(model) != BITNET_SUCCESS)
        return fail("free the model");
    return EXIT_SUCCESS;
}
