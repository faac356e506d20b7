/* Prints what the library logs while a model is loaded and run. Argument: a model. */
#include "bitnet_ext.h"
#include "check.h"

static void print(uint32_t level, const char *message, void *user_data)
{
    (void)user_data;
    printf("%u: %s\n", (unsigned)level, message);
}

int main(int argc, char **argv)
{
    char output[64];
    CHECK(argc == 2);
    CHECK(bitnet_ext_set_log_callback(print, NULL, BITNET_EXT_LOG_DEBUG) == BITNET_SUCCESS);
    int model = bitnet_model_load(argv[1]);
    CHECK(model >= 0);
    CHECK(bitnet_inference(model, "Once", output, sizeof output) > 0);
    CHECK(bitnet_model_free(model) == BITNET_SUCCESS);
    return 0;
}
