/* Several threads load models at once, and run on one that is freed under them: each run gets
 * the whole text or is told that there is no such model. Arguments: the model of tiny_model.py,
 * the text it says. */
#include <pthread.h>

#include "check.h"

enum { THREADS = 3 };

static int model;
static const char *path;
static const char *text;

static void *load_run_free(void *unused)
{
    char output[80];
    (void)unused;
    int mine = bitnet_model_load(path);
    CHECK(mine >= 0 && mine < THREADS);
    CHECK(bitnet_inference(mine, "Say", output, sizeof output) == (int)strlen(text));
    CHECK(strcmp(output, text) == 0);
    CHECK(bitnet_model_free(mine) == BITNET_SUCCESS);
    return NULL;
}

static void *run_until_freed(void *unused)
{
    char output[80];
    int runs = 0;
    (void)unused;
    for (;; runs++) {
        int length = bitnet_inference(model, "Say", output, sizeof output);
        if (length < 0) {
            CHECK(length == BITNET_ERROR_INVALID_MODEL_ID);
            return NULL;
        }
        CHECK(length == (int)strlen(text) && strcmp(output, text) == 0);
    }
}

static void in_threads(void *(*run)(void *), void (*meanwhile)(void))
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, NULL) == 0);
    meanwhile();
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static void nothing(void)
{
}

static void run_and_free(void)
{
    char output[80];
    for (int i = 0; i < 2; i++)
        CHECK(bitnet_inference(model, "Say", output, sizeof output) > 0);
    CHECK(bitnet_model_free(model) == BITNET_SUCCESS);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    path = argv[1];
    text = argv[2];
    in_threads(load_run_free, nothing);
    for (int round = 0; round < 2; round++) {
        model = bitnet_model_load(path);
        CHECK(model == THREADS + round);
        in_threads(run_until_freed, run_and_free);
    }
    return 0;
}
