/* Python cannot start: every call that needs it says so, and none returns 0. */
#include "check.h"

static void explains(int code)
{
    const char *text = bitnet_get_last_error();
    CHECK(code == BITNET_ERROR_INTERNAL);
    CHECK(text != NULL && strstr(text, "Internal error: cannot start Python: ") == text);
    puts(text);
}

int main(void)
{
    char output[8] = "kept";
    bitnet_inference_config_t config = BITNET_INFERENCE_CONFIG_INIT;
    explains(bitnet_init());
    explains(bitnet_model_load("model.gguf"));
    explains(bitnet_model_free(0));
    explains(bitnet_model_is_loaded(0));
    explains(bitnet_inference(0, "x", output, sizeof output));
    explains(bitnet_inference_with_config(0, "x", &config, output, sizeof output));
    CHECK(strcmp(output, "kept") == 0);
    CHECK(bitnet_cleanup() == BITNET_SUCCESS);
    CHECK(bitnet_get_last_error() == NULL);
    explains(bitnet_init());
    return 0;
}
