/* The Python side, as C sees it: implemented in bitnet/embed/ through cffi.
 *
 * Each function that can fail answers through *result, which the caller presets to
 * BITNET_ERROR_INTERNAL: when cffi cannot deliver a call at all it returns zeros, and a zero must
 * never look like success. Arguments are already checked. */
#ifndef BITNET_CABI_HOST_H
#define BITNET_CABI_HOST_H

#include "bitnet_ext.h"

/* config may be NULL. */
void bitnet_host_model_load(const char *path, const bitnet_config_t *config, int *result);
void bitnet_host_model_free(int model_id, int *result);
void bitnet_host_model_is_loaded(int model_id, int *result);
void bitnet_host_model_get_info(int model_id, bitnet_model_t *info, int *result);
void bitnet_host_model_loading_progress(int model_id, int *result);
void bitnet_host_switch_model_backend(int model_id, uint32_t backend_preference, int *result);
void bitnet_host_get_metrics(int model_id, bitnet_performance_metrics_t *metrics, int *result);
void bitnet_host_reset_metrics(int model_id, int *result);

void bitnet_host_inference(int model_id, const char *prompt,
                           const bitnet_inference_config_t *config, char *output, size_t max_len,
                           int *result);
void bitnet_host_batch_inference(int model_id, const char **prompts, size_t num_prompts,
                                 const bitnet_inference_config_t *config, char **outputs,
                                 size_t *max_lens, int *result);

void bitnet_host_start_streaming(int model_id, const char *prompt,
                                 const bitnet_inference_config_t *config,
                                 const bitnet_stream_config_t *stream_config, int *result);
/* Tells the stream's callback and user_data too. */
void bitnet_host_stream_next(int stream_id, char *token, size_t max_len,
                             bitnet_stream_callback_t *callback, void **user_data, int *result);
/* The next piece is the end; unlike stop_streaming the id stays. */
void bitnet_host_end_stream(int stream_id, int *result);
void bitnet_host_stop_streaming(int stream_id, int *result);

/* The settings of report.h have changed. */
void bitnet_host_settings_changed(int *result);
void bitnet_host_get_memory_usage(uint64_t *usage);
void bitnet_host_garbage_collect(int *result);
void bitnet_host_cleanup(int *result);

void bitnet_host_context_length(int model_id, int *result);
void bitnet_host_tokenize(int model_id, const char *text, uint32_t flags, int32_t *ids,
                          size_t capacity, int *result);
void bitnet_host_detokenize(int model_id, const int32_t *ids, size_t n_ids, uint32_t flags,
                            char *text, size_t max_len, int *result);
/* config: that of the request, or the defaults. */
void bitnet_host_generate(int model_id, const bitnet_ext_request_t *request,
                          const bitnet_inference_config_t *config, int *result);
void bitnet_host_result_get_info(int result_id, bitnet_ext_result_info_t *info, int *result);
void bitnet_host_result_text(int result_id, char *text, size_t max_len, int *result);
void bitnet_host_result_token(int result_id, size_t index, bitnet_ext_token_t *token, int *result);
void bitnet_host_result_free(int result_id, int *result);
void bitnet_host_start_token_streaming(int model_id, const bitnet_ext_request_t *request,
                                       const bitnet_inference_config_t *config,
                                       const bitnet_stream_config_t *stream_config, int *result);
void bitnet_host_stream_next_token(int stream_id, bitnet_ext_token_t *token, char *text,
                                   size_t max_len, int *result);
void bitnet_host_cancellation_new(int *result);
void bitnet_host_cancel(int cancellation_id, int *result);
void bitnet_host_cancellation_free(int cancellation_id, int *result);
void bitnet_host_logits(int model_id, const int32_t *ids, size_t n_ids, float *logits,
                        size_t capacity, int *result);
void bitnet_host_embeddings(int model_id, const int32_t *ids, size_t n_ids, uint32_t pooling,
                            float *embeddings, size_t capacity, int *result);

#endif
