/*
 * batch.c - three stories at once.
 *
 *     batch [MODEL]
 *
 * The model reads its weights once for all of them, which is faster than one after another, and
 * gives the same texts.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bitnet.h"

#define COUNT 3
#define STORY_SIZE 4096

int main(int argc, char **argv)
{
    static const char *prompts[COUNT] = {"Once upon a time", "The little robot", "In the garden"};
    static char stories[COUNT][STORY_SIZE];
    char *outputs[COUNT];
    size_t sizes[COUNT];

    for (int i = 0; i < COUNT; i++) {
        outputs[i] = stories[i];
        sizes[i] = STORY_SIZE;
    }

    int model = bitnet_model_load(argc > 1 ? argv[1] : BITNET_BUNDLED_MODEL);
    if (model < 0) {
        fprintf(stderr, "batch: cannot load the model: %s\n", bitnet_get_last_error());
        return EXIT_FAILURE;
    }

    bitnet_inference_config_t config = BITNET_INFERENCE_CONFIG_INIT;
    config.do_sample = 0;
    config.repetition_penalty = 1.0f;
    config.max_new_tokens = 40;

    int done = bitnet_batch_inference(model, prompts, COUNT, &config, outputs, sizes);
    if (done < COUNT) /* an error, or some failed and the last error is that of the last */
        fprintf(stderr, "batch: %s\n", bitnet_get_last_error());
    for (int i = 0; done >= 0 && i < COUNT; i++)
        printf("%s%s\n\n", prompts[i], stories[i]);

    bitnet_model_free(model);
    return done == COUNT ? EXIT_SUCCESS : EXIT_FAILURE;
}
