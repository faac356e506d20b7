/* A host that forks, before or after its first call. Arguments: "before" or "after", a model. */
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static void runs(const char *path)
{
    char output[64];
    int model = bitnet_model_load(path);
    CHECK(model >= 0);
    CHECK(bitnet_inference(model, "Once", output, sizeof output) > 0);
    CHECK(bitnet_model_free(model) == BITNET_SUCCESS);
}

/* All that needs no Python works; the rest says what is wrong, at once. */
static void is_refused(const char *path)
{
    char output[8] = "kept";
    CHECK(bitnet_abi_version() == BITNET_ABI_VERSION);
    CHECK(bitnet_model_load(NULL) == BITNET_ERROR_INVALID_ARGUMENT);
    CHECK(bitnet_init() == BITNET_ERROR_INTERNAL);
    CHECK(bitnet_model_load(path) == BITNET_ERROR_INTERNAL);
    CHECK(bitnet_model_is_loaded(0) == BITNET_ERROR_INTERNAL);
    CHECK(bitnet_inference(0, "x", output, sizeof output) == BITNET_ERROR_INTERNAL);
    CHECK(strcmp(output, "kept") == 0);
    CHECK(strstr(bitnet_get_last_error(), "forked") != NULL);
    CHECK(bitnet_model_free(0) == BITNET_ERROR_INTERNAL);
    CHECK(bitnet_cleanup() <= BITNET_SUCCESS); /* returns */
}

static void in_child(void (*test)(const char *), const char *path)
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(60);
        test(path);
        exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    if (strcmp(argv[1], "before") == 0) {
        in_child(runs, argv[2]);
        in_child(runs, argv[2]);
        runs(argv[2]);
    } else {
        CHECK(bitnet_model_load(argv[2]) == 0); /* stays loaded over the fork */
        char output[64];
        CHECK(bitnet_inference(0, "Once", output, sizeof output) > 0);
        in_child(is_refused, argv[2]);
        CHECK(bitnet_inference(0, "Once", output, sizeof output) > 0);
        runs(argv[2]);
    }
    return 0;
}
