/* Sizes and offsets that ABI version 1 freezes; 64-bit targets. Included by C and C++. */
#include <stddef.h>

#include "bitnet.h"

#if defined(__cplusplus)
#  define HOLDS(condition) static_assert(condition, #condition)
#else
#  define JOIN(a, b) a##b
#  define NAMED(line) JOIN(holds_, line)
#  define HOLDS(condition) extern char NAMED(__LINE__)[(condition) ? 1 : -1]
#endif

#define SIZE(type, size) HOLDS(sizeof(type) == (size))
#define FIELD(type, field, offset, field_type) \
    HOLDS(offsetof(type, field) == (offset) && sizeof(((type *)0)->field) == sizeof(field_type))

SIZE(bitnet_config_t, 72);
FIELD(bitnet_config_t, model_path, 0, const char *);
FIELD(bitnet_config_t, model_format, 8, uint32_t);
FIELD(bitnet_config_t, vocab_size, 12, uint32_t);
FIELD(bitnet_config_t, hidden_size, 16, uint32_t);
FIELD(bitnet_config_t, num_layers, 20, uint32_t);
FIELD(bitnet_config_t, num_heads, 24, uint32_t);
FIELD(bitnet_config_t, intermediate_size, 28, uint32_t);
FIELD(bitnet_config_t, max_position_embeddings, 32, uint32_t);
FIELD(bitnet_config_t, quantization_type, 36, uint32_t);
FIELD(bitnet_config_t, block_size, 40, uint32_t);
FIELD(bitnet_config_t, precision, 44, float);
FIELD(bitnet_config_t, num_threads, 48, uint32_t);
FIELD(bitnet_config_t, use_gpu, 52, uint32_t);
FIELD(bitnet_config_t, batch_size, 56, uint32_t);
FIELD(bitnet_config_t, memory_limit, 64, uint64_t);

SIZE(bitnet_inference_config_t, 56);
FIELD(bitnet_inference_config_t, max_length, 0, uint32_t);
FIELD(bitnet_inference_config_t, max_new_tokens, 4, uint32_t);
FIELD(bitnet_inference_config_t, temperature, 8, float);
FIELD(bitnet_inference_config_t, top_k, 12, uint32_t);
FIELD(bitnet_inference_config_t, top_p, 16, float);
FIELD(bitnet_inference_config_t, repetition_penalty, 20, float);
FIELD(bitnet_inference_config_t, frequency_penalty, 24, float);
FIELD(bitnet_inference_config_t, presence_penalty, 28, float);
FIELD(bitnet_inference_config_t, seed, 32, uint64_t);
FIELD(bitnet_inference_config_t, do_sample, 40, uint32_t);
FIELD(bitnet_inference_config_t, backend_preference, 44, uint32_t);
FIELD(bitnet_inference_config_t, enable_streaming, 48, uint32_t);
FIELD(bitnet_inference_config_t, stream_buffer_size, 52, uint32_t);

SIZE(bitnet_model_t, 80);
FIELD(bitnet_model_t, name, 0, const char *);
FIELD(bitnet_model_t, version, 8, const char *);
FIELD(bitnet_model_t, architecture, 16, const char *);
FIELD(bitnet_model_t, vocab_size, 24, uint32_t);
FIELD(bitnet_model_t, context_length, 28, uint32_t);
FIELD(bitnet_model_t, hidden_size, 32, uint32_t);
FIELD(bitnet_model_t, num_layers, 36, uint32_t);
FIELD(bitnet_model_t, num_heads, 40, uint32_t);
FIELD(bitnet_model_t, intermediate_size, 44, uint32_t);
FIELD(bitnet_model_t, quantization_type, 48, uint32_t);
FIELD(bitnet_model_t, file_size, 56, uint64_t);
FIELD(bitnet_model_t, memory_usage, 64, uint64_t);
FIELD(bitnet_model_t, is_gpu_loaded, 72, uint32_t);

SIZE(bitnet_performance_metrics_t, 32);
FIELD(bitnet_performance_metrics_t, tokens_per_second, 0, float);
FIELD(bitnet_performance_metrics_t, latency_ms, 4, float);
FIELD(bitnet_performance_metrics_t, memory_usage_mb, 8, float);
FIELD(bitnet_performance_metrics_t, gpu_utilization, 12, float);
FIELD(bitnet_performance_metrics_t, total_inference_time_ms, 16, float);
FIELD(bitnet_performance_metrics_t, time_to_first_token_ms, 20, float);
FIELD(bitnet_performance_metrics_t, tokens_generated, 24, uint32_t);
FIELD(bitnet_performance_metrics_t, prompt_tokens, 28, uint32_t);

SIZE(bitnet_stream_config_t, 32);
FIELD(bitnet_stream_config_t, callback, 0, bitnet_stream_callback_t);
FIELD(bitnet_stream_config_t, user_data, 8, void *);
FIELD(bitnet_stream_config_t, buffer_size, 16, uint32_t);
FIELD(bitnet_stream_config_t, yield_interval, 20, uint32_t);
FIELD(bitnet_stream_config_t, enable_backpressure, 24, uint32_t);
FIELD(bitnet_stream_config_t, timeout_ms, 28, uint32_t);

HOLDS(BITNET_ABI_VERSION == 1 && BITNET_SUCCESS == 0);
HOLDS(BITNET_ERROR_INVALID_ARGUMENT == -1);
HOLDS(BITNET_ERROR_MODEL_NOT_FOUND == -2);
HOLDS(BITNET_ERROR_MODEL_LOAD_FAILED == -3);
HOLDS(BITNET_ERROR_INFERENCE_FAILED == -4);
HOLDS(BITNET_ERROR_OUT_OF_MEMORY == -5);
HOLDS(BITNET_ERROR_THREAD_SAFETY == -6);
HOLDS(BITNET_ERROR_INVALID_MODEL_ID == -7);
HOLDS(BITNET_ERROR_CONTEXT_LENGTH_EXCEEDED == -8);
HOLDS(BITNET_ERROR_UNSUPPORTED_OPERATION == -9);
HOLDS(BITNET_ERROR_INTERNAL == -10);
HOLDS(BITNET_FORMAT_GGUF == 0 && BITNET_FORMAT_SAFETENSORS == 1 && BITNET_FORMAT_HUGGINGFACE == 2);
HOLDS(BITNET_QUANT_I2S == 0 && BITNET_QUANT_TL1 == 1 && BITNET_QUANT_TL2 == 2);
HOLDS(BITNET_BACKEND_AUTO == 0 && BITNET_BACKEND_CPU == 1 && BITNET_BACKEND_GPU == 2);
