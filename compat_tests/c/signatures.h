/* The 29 functions with the types that ABI version 1 freezes. Included by C and C++: a function
 * of another type does not initialise its pointer. */
#include "bitnet.h"

#define SIGNATURE(result, name, parameters) static result(*const check_##name) parameters = name

SIGNATURE(uint32_t, bitnet_abi_version, (void));
SIGNATURE(uint32_t, bitnet_ffi_api_version, (void));
SIGNATURE(const char *, bitnet_version, (void));
SIGNATURE(int, bitnet_init, (void));
SIGNATURE(int, bitnet_cleanup, (void));
SIGNATURE(int, bitnet_model_load, (const char *));
SIGNATURE(int, bitnet_model_load_with_config, (const char *, const bitnet_config_t *));
SIGNATURE(int, bitnet_model_free, (int));
SIGNATURE(int, bitnet_model_is_loaded, (int));
SIGNATURE(int, bitnet_model_get_info, (int, bitnet_model_t *));
SIGNATURE(int, bitnet_inference, (int, const char *, char *, size_t));
SIGNATURE(int, bitnet_inference_with_config,
          (int, const char *, const bitnet_inference_config_t *, char *, size_t));
SIGNATURE(const char *, bitnet_get_last_error, (void));
SIGNATURE(void, bitnet_clear_last_error, (void));
SIGNATURE(int, bitnet_set_num_threads, (uint32_t));
SIGNATURE(uint32_t, bitnet_get_num_threads, (void));
SIGNATURE(int, bitnet_set_gpu_enabled, (int));
SIGNATURE(int, bitnet_is_gpu_available, (void));
SIGNATURE(int, bitnet_get_performance_metrics, (int, bitnet_performance_metrics_t *));
SIGNATURE(int, bitnet_reset_performance_metrics, (int));
SIGNATURE(int, bitnet_batch_inference,
          (int, const char **, size_t, const bitnet_inference_config_t *, char **, size_t *));
SIGNATURE(int, bitnet_start_streaming,
          (int, const char *, const bitnet_inference_config_t *, const bitnet_stream_config_t *));
SIGNATURE(int, bitnet_stop_streaming, (int));
SIGNATURE(int, bitnet_stream_next_token, (int, char *, size_t));
SIGNATURE(int, bitnet_set_memory_limit, (uint64_t));
SIGNATURE(uint64_t, bitnet_get_memory_usage, (void));
SIGNATURE(int, bitnet_garbage_collect, (void));
SIGNATURE(int, bitnet_get_model_loading_progress, (int));
SIGNATURE(int, bitnet_switch_model_backend, (int, uint32_t));
