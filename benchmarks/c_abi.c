/* Times calls of libbitnet for benchmarks/c_abi.py. Arguments: a model, a prompt, and numbers of
 * new tokens. Prints a name and the median time in nanoseconds a line. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bitnet.h"

enum { ROUNDS = 51, CALLS = 20000 };

static double now(void)
{
    struct timespec time;
    timespec_get(&time, TIME_UTC);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, ascending);
    return values[ROUNDS / 2];
}

static char output[1 << 16];
static bitnet_inference_config_t config = BITNET_INFERENCE_CONFIG_INIT;

static int null_path(void)
{
    return bitnet_model_load(NULL);
}

static int negative_id(void)
{
    return bitnet_model_is_loaded(-1);
}

static int not_utf8(void)
{
    return bitnet_inference(0, "Once upon a time, in a land far away \xFF", output, 8);
}

static int wrong_config(void)
{
    static const bitnet_inference_config_t wrong = {64, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0};
    return bitnet_inference_with_config(0, "Once", &wrong, output, 8);
}

static int no_stream_buffer(void)
{
    return bitnet_stream_next_token(0, output, 0);
}

static void time_error(const char *name, int (*call)(void))
{
    double times[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        double start = now();
        for (int i = 0; i < CALLS; i++)
            if (call() != BITNET_ERROR_INVALID_ARGUMENT)
                exit(1);
        times[round] = (now() - start) / CALLS;
    }
    printf("%s\t%.1f\n", name, median(times));
}

static void time_inference(int model, const char *prompt, const char *tokens)
{
    double times[ROUNDS];
    config.max_new_tokens = (uint32_t)atoi(tokens);
    for (int round = 0; round < ROUNDS; round++) {
        double start = now();
        if (bitnet_inference_with_config(model, prompt, &config, output, sizeof output) < 0)
            exit(1);
        times[round] = now() - start;
    }
    printf("%s\t%.0f\n", tokens, median(times));
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    int model = bitnet_model_load(argv[1]);
    if (model < 0) {
        fprintf(stderr, "%s\n", bitnet_get_last_error());
        return 1;
    }
    time_error("a NULL path", null_path);
    time_error("a negative id", negative_id);
    time_error("a prompt that is not UTF-8", not_utf8);
    time_error("a config out of range", wrong_config);
    time_error("no room for a token", no_stream_buffer);
    config.do_sample = 0;
    config.repetition_penalty = 1;
    for (int i = 3; i < argc; i++)
        time_inference(model, argv[2], argv[i]);
    return 0;
}
