/* The model's file is deleted while it is loaded: it goes on, a second load finds nothing.
 * Argument: a model, which will be deleted. */
#include <unistd.h>

#include "check.h"

static const bitnet_inference_config_t greedy = {64, 16, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1};

int main(int argc, char **argv)
{
    char before[256], after[256];
    CHECK(argc == 2);
    int model = bitnet_model_load(argv[1]);
    CHECK(model == 0);
    CHECK(bitnet_inference_with_config(model, "Once", &greedy, before, sizeof before) > 0);
    CHECK(unlink(argv[1]) == 0);
    CHECK(bitnet_inference_with_config(model, "Once", &greedy, after, sizeof after) > 0);
    CHECK(strcmp(before, after) == 0);
    CHECK(bitnet_model_load(argv[1]) == BITNET_ERROR_MODEL_NOT_FOUND);
    CHECK(bitnet_model_free(model) == BITNET_SUCCESS);
    CHECK(bitnet_model_free(model) == BITNET_ERROR_INVALID_MODEL_ID);
    return 0;
}
