/* The *_INIT macros hold the documented defaults. */
#include "check.h"

int main(void)
{
    bitnet_config_t load = BITNET_CONFIG_INIT;
    CHECK(load.model_path == NULL && load.model_format == 0 && load.vocab_size == 32000);
    CHECK(load.hidden_size == 4096 && load.num_layers == 32 && load.num_heads == 32);
    CHECK(load.intermediate_size == 11008 && load.max_position_embeddings == 2048);
    CHECK(load.quantization_type == 0 && load.block_size == 64 && load.precision == 1e-4F);
    CHECK(load.num_threads == 0 && load.use_gpu == 0 && load.batch_size == 1);
    CHECK(load.memory_limit == 0);

    bitnet_inference_config_t run = BITNET_INFERENCE_CONFIG_INIT;
    CHECK(run.max_length == 2048 && run.max_new_tokens == 512 && run.temperature == 1.0F);
    CHECK(run.top_k == 50 && run.top_p == 0.9F && run.repetition_penalty == 1.1F);
    CHECK(run.frequency_penalty == 0 && run.presence_penalty == 0 && run.seed == 0);
    CHECK(run.do_sample == 1 && run.backend_preference == 0 && run.enable_streaming == 0);
    CHECK(run.stream_buffer_size == 64);

    bitnet_stream_config_t stream = BITNET_STREAM_CONFIG_INIT;
    CHECK(stream.callback == NULL && stream.user_data == NULL && stream.buffer_size == 64);
    CHECK(stream.yield_interval == 1 && stream.enable_backpressure == 1);
    CHECK(stream.timeout_ms == 5000);
    return 0;
}
