/* Start, errors and end in a plain C process, which keeps its locale and signal handlers.
 * Argument: a file that is no model. */
#include <locale.h>
#include <signal.h>

#include "check.h"

static void no_such_model(const char *path)
{
    char expected[4096];
    snprintf(expected, sizeof expected, "Model not found: Model file not found: %s", path);
    CHECK_FAILS(bitnet_model_load(path), BITNET_ERROR_MODEL_NOT_FOUND, expected);
}

/* The text handed out stays as it is until this thread asks for the next one. */
static void error_text_lives_on(void)
{
    CHECK(bitnet_model_load("/no/such/file") == BITNET_ERROR_MODEL_NOT_FOUND);
    const char *text = bitnet_get_last_error();
    CHECK(bitnet_model_load(NULL) == BITNET_ERROR_INVALID_ARGUMENT);
    bitnet_clear_last_error();
    CHECK(bitnet_init() == BITNET_SUCCESS);
    CHECK(strcmp(text, "Model not found: Model file not found: /no/such/file") == 0);
    CHECK(bitnet_get_last_error() == NULL);
}

int main(int argc, char **argv)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGPIPE};
    struct sigaction before[3], after;
    for (int i = 0; i < 3; i++)
        sigaction(signals[i], NULL, &before[i]);

    CHECK(argc == 2);
    CHECK(bitnet_init() == BITNET_SUCCESS && bitnet_init() == BITNET_SUCCESS);
    CHECK(bitnet_get_last_error() == NULL);
    CHECK(bitnet_cleanup() == BITNET_SUCCESS && bitnet_cleanup() == BITNET_SUCCESS);
    CHECK(bitnet_init() == BITNET_SUCCESS);

    no_such_model("");
    no_such_model("/no/such/dossier/mod\xC3\xA8le");
    CHECK(bitnet_model_load(argv[1]) == BITNET_ERROR_MODEL_LOAD_FAILED);
    CHECK(strstr(bitnet_get_last_error(), "Model loading failed: ") == bitnet_get_last_error());
    CHECK(strstr(bitnet_get_last_error(), argv[1]) != NULL);
    error_text_lives_on();

    char output[8] = "kept";
    bitnet_inference_config_t config = BITNET_INFERENCE_CONFIG_INIT;
    CHECK(bitnet_model_is_loaded(0) == 0);
    CHECK(bitnet_get_last_error() == NULL);
    CHECK_FAILS(bitnet_model_free(0), BITNET_ERROR_INVALID_MODEL_ID,
                "Invalid model ID: Model ID 0 not found");
    CHECK_FAILS(bitnet_inference(2147483647, "x", output, sizeof output),
                BITNET_ERROR_INVALID_MODEL_ID, "Invalid model ID: Model ID 2147483647 not found");
    CHECK_FAILS(bitnet_inference_with_config(0, "x", &config, output, sizeof output),
                BITNET_ERROR_INVALID_MODEL_ID, "Invalid model ID: Model ID 0 not found");
    config.top_p = 2;
    CHECK(bitnet_inference_with_config(0, "x", &config, output, sizeof output) ==
          BITNET_ERROR_INVALID_ARGUMENT);
    CHECK(strcmp(output, "kept") == 0);

    for (int i = 0; i < 3; i++) {
        sigaction(signals[i], NULL, &after);
        CHECK(after.sa_handler == before[i].sa_handler);
    }
    CHECK(strcmp(setlocale(LC_ALL, NULL), "C") == 0);
    return 0;
}
