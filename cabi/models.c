/* Models: load, free, what they are and how the last run on them went.
 *
 * As everywhere: each function clears the last error, checks its arguments in the order that
 * bitnet.h promises, makes sure Python runs, and only then asks it. */
#include "host.h"
#include "internal.h"

int bitnet_model_load(const char *path)
{
    int result = bitnet_begin();
    TRY(bitnet_check_pointer(path, "path"));
    TRY(bitnet_check_utf8(path, "path"));
    TRY(bitnet_start());
    bitnet_host_model_load(path, NULL, &result);
    return bitnet_finish(result);
}

int bitnet_model_load_with_config(const char *path, const bitnet_config_t *config)
{
    int result = bitnet_begin();
    TRY(bitnet_check_pointer(path, "path"));
    TRY(bitnet_check_pointer(config, "config"));
    TRY(bitnet_check_utf8(path, "path"));
    TRY(bitnet_check_config(config));
    if (config->use_gpu != 0)
        TRY(bitnet_require_gpu("use_gpu"));
    TRY(bitnet_start());
    bitnet_host_model_load(path, config, &result);
    return bitnet_finish(result);
}

int bitnet_model_free(int model_id)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_start());
    bitnet_host_model_free(model_id, &result);
    return bitnet_finish(result);
}

int bitnet_model_is_loaded(int model_id)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_start());
    bitnet_host_model_is_loaded(model_id, &result);
    return bitnet_finish(result);
}

int bitnet_model_get_info(int model_id, bitnet_model_t *info)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_check_pointer(info, "info"));
    TRY(bitnet_start());
    bitnet_host_model_get_info(model_id, info, &result);
    return bitnet_finish(result);
}

int bitnet_get_model_loading_progress(int model_id)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_start());
    bitnet_host_model_loading_progress(model_id, &result);
    return bitnet_finish(result);
}

int bitnet_switch_model_backend(int model_id, uint32_t backend_preference)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_check_backend(backend_preference));
    TRY(bitnet_start());
    bitnet_host_switch_model_backend(model_id, backend_preference, &result);
    return bitnet_finish(result);
}

int bitnet_get_performance_metrics(int model_id, bitnet_performance_metrics_t *metrics)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_check_pointer(metrics, "metrics"));
    TRY(bitnet_start());
    bitnet_host_get_metrics(model_id, metrics, &result);
    return bitnet_finish(result);
}

int bitnet_reset_performance_metrics(int model_id)
{
    int result = bitnet_begin();
    TRY(bitnet_check_id(model_id, "model_id"));
    TRY(bitnet_start());
    bitnet_host_reset_metrics(model_id, &result);
    return bitnet_finish(result);
}
