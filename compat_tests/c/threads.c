/* Threads that come and go, all starting the library at once, each with its own last error. */
#include <pthread.h>

#include "check.h"

enum { THREADS = 8, ROUNDS = 20 };

static void *fail_in_my_own_words(void *number)
{
    char path[32], expected[80];
    CHECK(bitnet_get_last_error() == NULL);
    for (int round = 0; round < ROUNDS; round++) {
        snprintf(path, sizeof path, "/none/%d.%d", *(int *)number, round);
        snprintf(expected, sizeof expected, "Model not found: Model file not found: %s", path);
        CHECK_FAILS(bitnet_model_load(path), BITNET_ERROR_MODEL_NOT_FOUND, expected);
        CHECK(bitnet_model_is_loaded(0) == 0);
        CHECK(bitnet_get_last_error() == NULL);
    }
    CHECK(bitnet_model_free(-1) == BITNET_ERROR_INVALID_ARGUMENT);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    int numbers[THREADS];
    for (int generation = 0; generation < 3; generation++) {
        for (int i = 0; i < THREADS; i++) {
            numbers[i] = generation * THREADS + i;
            CHECK(pthread_create(&threads[i], NULL, fail_in_my_own_words, &numbers[i]) == 0);
        }
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(bitnet_get_last_error() == NULL);
    }
    return 0;
}
