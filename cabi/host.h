/* The Python side, as C sees it: implemented in bitnet/embed.py through cffi.
 *
 * Each function answers through *result, which the caller presets to BITNET_ERROR_INTERNAL: when
 * cffi cannot deliver a call at all it returns zeros, and a zero must never look like success. */
#ifndef BITNET_CABI_HOST_H
#define BITNET_CABI_HOST_H

#include "bitnet.h"

void bitnet_host_model_load(const char *path, int *result);
void bitnet_host_model_free(int model_id, int *result);
void bitnet_host_model_is_loaded(int model_id, int *result);
void bitnet_host_inference(int model_id, const char *prompt,
                           const bitnet_inference_config_t *config, char *output, size_t max_len,
                           int *result);

#endif
