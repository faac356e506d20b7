/* The greatest memory use does not grow while a model is loaded, run and freed. Arguments: a
 * model, how many times, how many bytes may be added. */
#include "peak.h"

static const bitnet_inference_config_t greedy = {64, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1};

static void reload(const char *path, int rounds)
{
    char output[256];
    for (int i = 0; i < rounds; i++) {
        int model = bitnet_model_load(path);
        CHECK(model >= 0);
        CHECK(bitnet_inference_with_config(model, "Once", &greedy, output, sizeof output) > 0);
        CHECK(bitnet_model_free(model) == BITNET_SUCCESS);
    }
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    reload(argv[1], 30);
    long long before = peak_bytes();
    reload(argv[1], atoi(argv[2]));
    long long grown = peak_bytes() - before;
    printf("grown by %lld bytes\n", grown);
    CHECK(grown <= atoll(argv[3]));
    return 0;
}
