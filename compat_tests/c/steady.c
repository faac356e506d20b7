/* The greatest memory use does not grow while a model runs on and errors go by. Arguments: a
 * model, how many inferences, how many bytes may be added. */
#include "peak.h"

static const bitnet_inference_config_t greedy = {64, 4, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1};

static void run(int model, int rounds)
{
    char output[256];
    for (int i = 0; i < rounds; i++) {
        CHECK(bitnet_inference_with_config(model, "Once upon", &greedy, output, sizeof output) > 0);
        CHECK(bitnet_model_load("/no/such/model") == BITNET_ERROR_MODEL_NOT_FOUND);
        CHECK(bitnet_inference(model, NULL, output, 1) == BITNET_ERROR_INVALID_ARGUMENT);
    }
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    int model = bitnet_model_load(argv[1]);
    CHECK(model >= 0);
    run(model, 200);
    long long before = peak_bytes();
    run(model, atoi(argv[2]));
    long long grown = peak_bytes() - before;
    printf("grown by %lld bytes\n", grown);
    CHECK(grown <= atoll(argv[3]));
    return 0;
}
