/* Memory runs out at every point of loading and running: each time an error says so, the process
 * lives on, and afterwards all is well. Linux. Arguments: a model, the greatest allowance in
 * bytes, the step between allowances. Prints how the attempts ended. */
#include <sys/resource.h>
#include <unistd.h>

#include "check.h"

static const bitnet_inference_config_t greedy = {64, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1};

static rlim_t mapped_bytes(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void allow(rlim_t bytes)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = bytes == RLIM_INFINITY ? limit.rlim_max : mapped_bytes() + bytes;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

/* Returns 0, or the error of the call that failed. */
static int try(const char *path, const char *expected)
{
    char output[256];
    int model = bitnet_model_load(path);
    if (model < 0)
        return model;
    int length = bitnet_inference_with_config(model, "Once", &greedy, output, sizeof output);
    if (length >= 0)
        CHECK(strcmp(output, expected) == 0);
    char text[256];
    snprintf(text, sizeof text, "%s", length < 0 ? bitnet_get_last_error() : "");
    CHECK(bitnet_model_free(model) == BITNET_SUCCESS);
    CHECK(length >= 0 || text[0] != '\0');
    return length < 0 ? length : 0;
}

int main(int argc, char **argv)
{
    char expected[256];
    int successes = 0, out_of_memory = 0, others = 0;
    CHECK(argc == 4);
    int model = bitnet_model_load(argv[1]);
    CHECK(model == 0);
    CHECK(bitnet_inference_with_config(model, "Once", &greedy, expected, sizeof expected) > 0);
    for (long long extra = 0; extra <= atoll(argv[2]); extra += atoll(argv[3])) {
        allow((rlim_t)extra);
        int code = try(argv[1], expected);
        allow(RLIM_INFINITY);
        successes += code == 0;
        out_of_memory += code == BITNET_ERROR_OUT_OF_MEMORY;
        if (code != 0 && code != BITNET_ERROR_OUT_OF_MEMORY) {
            others++;
            printf("%lld bytes: %d: %s\n", extra, code, bitnet_get_last_error());
        }
        CHECK(try(argv[1], expected) == 0);
    }
    printf("successes: %d, out of memory: %d, others: %d\n", successes, out_of_memory, others);
    return 0;
}
