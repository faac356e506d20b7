/* Many threads mix all calls; whatever the others do, a greedy text is that of a single thread,
 * an error is the caller's own, and every thread gets on. Arguments: a model, how many seconds.
 * Prints how often each thing was done. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

enum { THREADS = 16, MOST_THREADS = 3, PROMPTS = 4, SIZE = 256, STUCK_SECONDS = 90 };

static const char *const prompts[PROMPTS] = {"Once upon a time", "The cat", "Tom and Lily", "A"};
static char expected[PROMPTS][SIZE];
static const bitnet_inference_config_t greedy = {64, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1};
static const bitnet_stream_config_t plain = BITNET_STREAM_CONFIG_INIT;

static const char *path;
static int shared;                   /* a model that stays */
static atomic_int victim;            /* one that is freed and loaded again under its users */
static atomic_int open_streams[THREADS]; /* to be stopped by others; -1 = none */
static atomic_int cleanups_begun, cleanups_ended;
static atomic_int stopping;

typedef struct worker {
    int number;
    uint64_t random;
    atomic_int doing; /* index in actions */
    atomic_ulong done;
} worker_t;

static uint32_t draw(worker_t *me, uint32_t below)
{
    me->random ^= me->random << 13;
    me->random ^= me->random >> 7;
    me->random ^= me->random << 17;
    return (uint32_t)(me->random >> 33) % below;
}

static void infer_shared(worker_t *me)
{
    char output[SIZE];
    uint32_t i = draw(me, PROMPTS);
    int length = bitnet_inference_with_config(shared, prompts[i], &greedy, output, SIZE);
    CHECK(length == (int)strlen(expected[i]));
    CHECK(strcmp(output, expected[i]) == 0);
    CHECK(bitnet_get_last_error() == NULL);
}

static void infer_with_a_cut(worker_t *me)
{
    char output[SIZE];
    uint32_t i = draw(me, PROMPTS);
    size_t size = 1 + draw(me, 12);
    int length = bitnet_inference_with_config(shared, prompts[i], &greedy, output, size);
    CHECK(length >= 0 && (size_t)length < size);
    CHECK(strncmp(output, expected[i], (size_t)length) == 0 && output[length] == '\0');
}

static void load_run_free(worker_t *me)
{
    char output[SIZE];
    uint32_t i = draw(me, PROMPTS);
    int model = bitnet_model_load(path);
    CHECK(model > shared);
    CHECK(bitnet_inference_with_config(model, prompts[i], &greedy, output, SIZE) >= 0);
    CHECK(strcmp(output, expected[i]) == 0);
    CHECK(bitnet_model_free(model) == BITNET_SUCCESS);
    CHECK(bitnet_inference_with_config(model, prompts[i], &greedy, output, SIZE) ==
          BITNET_ERROR_INVALID_MODEL_ID);
}

static void infer_victim(worker_t *me)
{
    char output[SIZE];
    uint32_t i = draw(me, PROMPTS);
    int model = atomic_load(&victim);
    int length = bitnet_inference_with_config(model, prompts[i], &greedy, output, SIZE);
    CHECK(length == BITNET_ERROR_INVALID_MODEL_ID || strcmp(output, expected[i]) == 0);
}

static void replace_victim(worker_t *me)
{
    (void)me;
    int fresh = bitnet_model_load(path);
    CHECK(fresh > shared);
    int old = atomic_exchange(&victim, fresh);
    CHECK(bitnet_model_free(old) == BITNET_SUCCESS);
    CHECK(bitnet_model_is_loaded(old) == 0);
}

/* Reads a stream to its end, or some pieces of it, into text. Returns what the last call said. */
static int read_pieces(int stream, char *text, uint32_t at_most)
{
    int length = 1;
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < at_most && length > 0; i++) {
        char piece[64];
        length = bitnet_stream_next_token(stream, piece, sizeof piece);
        if (length > 0) {
            CHECK(used + (size_t)length < SIZE);
            memcpy(text + used, piece, (size_t)length + 1);
            used += (size_t)length;
        }
    }
    return length;
}

static void stream_all(worker_t *me)
{
    char text[SIZE];
    uint32_t i = draw(me, PROMPTS);
    int before = atomic_load(&cleanups_ended);
    int stream = bitnet_start_streaming(shared, prompts[i], &greedy, &plain);
    CHECK(stream >= 0);
    int end = read_pieces(stream, text, 1000);
    CHECK(strncmp(text, expected[i], strlen(text)) == 0);
    int stopped = bitnet_stop_streaming(stream);
    if (atomic_load(&cleanups_begun) == before) { /* and so none was under way */
        CHECK(end == 0 && stopped == BITNET_SUCCESS);
        CHECK(strcmp(text, expected[i]) == 0);
    } else {
        CHECK(end == 0 || end == BITNET_ERROR_INVALID_ARGUMENT);
    }
}

static void stream_some(worker_t *me)
{
    char text[SIZE];
    uint32_t i = draw(me, PROMPTS);
    int stream = bitnet_start_streaming(shared, prompts[i], &greedy, &plain);
    CHECK(stream >= 0);
    read_pieces(stream, text, draw(me, 4));
    CHECK(strncmp(text, expected[i], strlen(text)) == 0);
    bitnet_stop_streaming(stream);
    CHECK(bitnet_stop_streaming(stream) == BITNET_ERROR_INVALID_ARGUMENT);
}

static void stream_for_others_to_stop(worker_t *me)
{
    char text[SIZE];
    uint32_t i = draw(me, PROMPTS);
    int stream = bitnet_start_streaming(shared, prompts[i], &greedy, &plain);
    CHECK(stream >= 0);
    atomic_store(&open_streams[me->number], stream);
    int end = read_pieces(stream, text, 1000);
    CHECK(end == 0 || end == BITNET_ERROR_INVALID_ARGUMENT);
    CHECK(strncmp(text, expected[i], strlen(text)) == 0);
    atomic_store(&open_streams[me->number], -1);
    bitnet_stop_streaming(stream);
}

static void stop_another_stream(worker_t *me)
{
    int stream = atomic_load(&open_streams[draw(me, THREADS)]);
    if (stream >= 0) {
        int code = bitnet_stop_streaming(stream);
        CHECK(code == BITNET_SUCCESS || code == BITNET_ERROR_INVALID_ARGUMENT);
    }
}

static void batch(worker_t *me)
{
    char buffers[PROMPTS][SIZE];
    const char *inputs[PROMPTS];
    char *outputs[PROMPTS];
    size_t sizes[PROMPTS];
    size_t count = 1 + draw(me, PROMPTS);
    for (size_t i = 0; i < count; i++) {
        inputs[i] = prompts[i];
        outputs[i] = buffers[i];
        sizes[i] = SIZE;
    }
    CHECK(bitnet_batch_inference(shared, inputs, count, &greedy, outputs, sizes) == (int)count);
    for (size_t i = 0; i < count; i++)
        CHECK(strcmp(buffers[i], expected[i]) == 0);
}

static void fail_in_my_own_words(worker_t *me)
{
    char name[64], text[128];
    snprintf(name, sizeof name, "/none/%d.%u", me->number, draw(me, 1000));
    snprintf(text, sizeof text, "Model not found: Model file not found: %s", name);
    CHECK(bitnet_model_load(name) == BITNET_ERROR_MODEL_NOT_FOUND);
    usleep(draw(me, 500));
    CHECK(bitnet_get_last_error() != NULL && strcmp(bitnet_get_last_error(), text) == 0);
    CHECK_FAILS(bitnet_inference(1000000000 + me->number, "x", text, 8),
                BITNET_ERROR_INVALID_MODEL_ID,
                (snprintf(name, sizeof name, "Invalid model ID: Model ID %d not found",
                          1000000000 + me->number),
                 name));
    CHECK(bitnet_model_free(-1) == BITNET_ERROR_INVALID_ARGUMENT);
}

static void ask(worker_t *me)
{
    bitnet_model_t info;
    bitnet_performance_metrics_t metrics;
    (void)me;
    CHECK(bitnet_model_get_info(shared, &info) == BITNET_SUCCESS && info.vocab_size > 0);
    CHECK(bitnet_get_performance_metrics(shared, &metrics) == BITNET_SUCCESS);
    CHECK(bitnet_model_is_loaded(shared) == 1);
    CHECK(bitnet_get_model_loading_progress(shared) == 100);
    CHECK(bitnet_get_memory_usage() > 0);
}

static void change_settings(worker_t *me)
{
    CHECK(bitnet_set_num_threads(1 + draw(me, MOST_THREADS)) == BITNET_SUCCESS);
    CHECK(bitnet_set_memory_limit(0) == BITNET_SUCCESS);
    CHECK(bitnet_garbage_collect() == BITNET_SUCCESS);
    CHECK(bitnet_reset_performance_metrics(shared) == BITNET_SUCCESS);
}

static void clean_up(worker_t *me)
{
    (void)me;
    atomic_fetch_add(&cleanups_begun, 1);
    CHECK(bitnet_cleanup() == BITNET_SUCCESS);
    atomic_fetch_add(&cleanups_ended, 1);
    CHECK(bitnet_init() == BITNET_SUCCESS);
}

static const struct {
    const char *name;
    void (*act)(worker_t *);
    uint32_t weight;
} actions[] = {
    {"inference", infer_shared, 8},
    {"cut inference", infer_with_a_cut, 4},
    {"load, run, free", load_run_free, 2},
    {"run on a model being freed", infer_victim, 4},
    {"free a model in use", replace_victim, 1},
    {"stream", stream_all, 6},
    {"part of a stream", stream_some, 4},
    {"stream stopped by others", stream_for_others_to_stop, 4},
    {"stop of another's stream", stop_another_stream, 6},
    {"batch", batch, 3},
    {"errors", fail_in_my_own_words, 6},
    {"questions", ask, 4},
    {"settings", change_settings, 2},
    {"cleanup", clean_up, 1},
};
enum { ACTIONS = sizeof actions / sizeof *actions };

static atomic_ulong counts[ACTIONS];

static int choose(worker_t *me)
{
    uint32_t total = 0;
    for (int i = 0; i < ACTIONS; i++)
        total += actions[i].weight;
    uint32_t left = draw(me, total);
    int i = 0;
    while (left >= actions[i].weight)
        left -= actions[i++].weight;
    return i;
}

static void *work(void *worker)
{
    worker_t *me = worker;
    while (!atomic_load(&stopping)) {
        int i = choose(me);
        atomic_store(&me->doing, i);
        actions[i].act(me);
        atomic_fetch_add(&counts[i], 1);
        atomic_fetch_add(&me->done, 1);
    }
    return NULL;
}

/* Lets the threads work, and ends the program when one of them no longer gets on. */
static void watch(worker_t *workers, int seconds)
{
    unsigned long seen[THREADS] = {0};
    int idle[THREADS] = {0};
    for (int second = 0; second < seconds; second++) {
        sleep(1);
        for (int i = 0; i < THREADS; i++) {
            unsigned long done = atomic_load(&workers[i].done);
            idle[i] = done == seen[i] ? idle[i] + 1 : 0;
            seen[i] = done;
            if (idle[i] >= STUCK_SECONDS) {
                printf("thread %d is stuck in: %s\n", i, actions[workers[i].doing].name);
                exit(1);
            }
        }
    }
}

int main(int argc, char **argv)
{
    static worker_t workers[THREADS];
    pthread_t threads[THREADS];
    CHECK(argc == 3);
    path = argv[1];
    for (int n = 1; n <= MOST_THREADS; n++) { /* the first load for a number may take seconds */
        CHECK(bitnet_set_num_threads((uint32_t)n) == BITNET_SUCCESS);
        CHECK(bitnet_model_free(bitnet_model_load(path)) == BITNET_SUCCESS);
    }
    shared = bitnet_model_load(path);
    CHECK(shared == MOST_THREADS);
    for (int i = 0; i < PROMPTS; i++)
        CHECK(bitnet_inference_with_config(shared, prompts[i], &greedy, expected[i], SIZE) > 0);
    atomic_store(&victim, bitnet_model_load(path));
    for (int i = 0; i < THREADS; i++)
        atomic_store(&open_streams[i], -1);
    for (int i = 0; i < THREADS; i++) {
        workers[i].number = i;
        workers[i].random = 0x9E3779B97F4A7C15u * (uint64_t)(i + 1);
        CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    watch(workers, atoi(argv[2]));
    atomic_store(&stopping, 1);
    alarm(STUCK_SECONDS); /* a thread that does not come back ends the program by a signal */
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < ACTIONS; i++)
        printf("%s: %lu\n", actions[i].name, atomic_load(&counts[i]));
    CHECK(bitnet_model_free(shared) == BITNET_SUCCESS);
    CHECK(bitnet_model_free(atomic_load(&victim)) == BITNET_SUCCESS);
    CHECK(bitnet_cleanup() == BITNET_SUCCESS);
    return 0;
}
