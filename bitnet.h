/*
 * bitnet.h - run ternary (1.58-bit) language models from C.
 *
 * Link with -lbitnet. The whole of a useful program is three calls:
 *
 *     char text[4096];
 *     int model = bitnet_model_load("model.gguf");
 *     if (model < 0 || bitnet_inference(model, "Once upon a time", text, sizeof text) < 0)
 *         fprintf(stderr, "%s\n", bitnet_get_last_error());
 *     else
 *         puts(text);
 *     bitnet_model_free(model);
 *
 * The page is ordered by how far you have to read: conventions and error codes, then models,
 * then inference, and after that everything that most programs never need. What this library
 * offers beyond it (tokens, chat, log-probabilities, embeddings, ...) is in bitnet_ext.h.
 *
 *
 * Conventions
 *
 *  - A negative int is an error code (BITNET_ERROR_...). Zero or a positive number is an answer.
 *    bitnet_get_last_error() says in words what went wrong. Do not use the text to find out
 *    whether something went wrong: that is what the return value is for.
 *  - Model ids and stream ids count upwards from 0 and are never used twice, so a stale id is
 *    always recognised. An id belongs to the whole process, not to a thread.
 *  - Strings that go in are UTF-8, end with a NUL and are only read during the call. The library
 *    keeps no pointer of yours.
 *  - Strings that come out are UTF-8, are written into your buffer, always end with a NUL on
 *    success and are never cut inside a character. The size you pass counts the NUL; the length
 *    you get back does not. A failed call leaves your buffer untouched.
 *  - Wrong arguments are told without asking anybody: in less than a microsecond, before Python
 *    has started and while others run.
 *  - No function prints, exits, changes the locale or touches signal handlers. Do not call the
 *    library from a signal handler.
 *  - After fork(): a child may use the library if its parent had not. Otherwise only the parent
 *    can go on; in the child, calls that need Python return BITNET_ERROR_INTERNAL.
 *
 *
 * Threads
 *
 *  - Every function may be called from any thread at any time, and threads may come and go.
 *  - Runs overlap, on different models and on the same one, where they share the work of each
 *    step. What runs beside a run does not change its text.
 *  - A model that is freed is gone for new calls at once. Runs and streams that have begun go on
 *    to their end; the last of them releases its memory.
 *  - bitnet_stop_streaming() and bitnet_cleanup() may come while another thread waits in
 *    bitnet_stream_next_token(), which then returns 0.
 *  - The library has threads of its own, which multiply. It never calls you from them.
 *
 *
 * Python inside
 *
 * The library runs the bitnet Python package in an interpreter of its own. The first call that
 * needs it starts it (a fraction of a second); it then stays until the process ends. No
 * environment variables are needed: the library knows where it was built and looks next to
 * itself first. Python's own variables (PYTHONPATH, PYTHONHOME, ...) are ignored. If the standard
 * library has been moved, BITNET_PYTHON_HOME may name the folder that Python is now installed
 * in, the one that holds lib/python3.x.
 *
 * If the interpreter cannot start, every call that needs it returns BITNET_ERROR_INTERNAL and
 * the last error says why and where the library looked. (Where a Python is there but damaged, it
 * writes its own report to standard error as well.)
 *
 * In a process that already runs Python (ctypes, cffi, an extension module) the library uses
 * that interpreter, which must be of the minor version it was built with. The calling thread
 * should not hold the GIL; ctypes.CDLL and cffi release it.
 *
 *
 * Stability: the symbols, structures and numbers on this page are frozen as ABI version 1.
 */
#ifndef BITNET_H
#define BITNET_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#  if defined(BITNET_BUILDING_LIBRARY)
#    define BITNET_API __declspec(dllexport)
#  else
#    define BITNET_API __declspec(dllimport)
#  endif
#elif defined(__GNUC__)
#  define BITNET_API __attribute__((visibility("default")))
#else
#  define BITNET_API
#endif

#ifdef __cplusplus
extern "C" {
#endif


/* ---- Return codes ---------------------------------------------------------------------------
 *
 * In brackets: how the text of bitnet_get_last_error() begins.
 */

#define BITNET_SUCCESS 0

/* A NULL, a number out of range, text that is not UTF-8. The message names the parameter.
 * ["Invalid argument: "] */
#define BITNET_ERROR_INVALID_ARGUMENT (-1)

/* There is nothing at the path. ["Model not found: "] */
#define BITNET_ERROR_MODEL_NOT_FOUND (-2)

/* The file is broken, or holds a model that this library cannot run. The message names the file,
 * the tensor and the rule. ["Model loading failed: "] */
#define BITNET_ERROR_MODEL_LOAD_FAILED (-3)

/* The model is fine, the run was not. ["Inference failed: "] */
#define BITNET_ERROR_INFERENCE_FAILED (-4)

/* ["Out of memory: "] */
#define BITNET_ERROR_OUT_OF_MEMORY (-5)

/* bitnet_set_num_threads(0), and nothing else. ["Thread safety violation: "] */
#define BITNET_ERROR_THREAD_SAFETY (-6)

/* No model has this id, or no longer. ["Invalid model ID: "] */
#define BITNET_ERROR_INVALID_MODEL_ID (-7)

/* The prompt leaves no room for a single new token. ["Context length exceeded: "] */
#define BITNET_ERROR_CONTEXT_LENGTH_EXCEEDED (-8)

/* Known, but not available here. ["Unsupported operation: "] */
#define BITNET_ERROR_UNSUPPORTED_OPERATION (-9)

/* Python could not start, or there is a bug in the library. ["Internal error: "] */
#define BITNET_ERROR_INTERNAL (-10)


/* ---- Version --------------------------------------------------------------------------------
 *
 * These three cannot fail, need no bitnet_init() and never start Python.
 */

/* The ABI this header describes. */
#define BITNET_ABI_VERSION 1

/* The ABI of the library found at run time. Anything but BITNET_ABI_VERSION means that header
 * and library do not belong together. */
BITNET_API uint32_t bitnet_abi_version(void);

/* The revision of this C interface: 1. */
BITNET_API uint32_t bitnet_ffi_api_version(void);

/* The release, for example "0.1.0". The same pointer every time; it belongs to the library. */
BITNET_API const char *bitnet_version(void);


/* ---- Start and end --------------------------------------------------------------------------- */

/* Starts the interpreter now, so that a broken installation shows here and not at the first
 * model. Optional: every other function starts what it needs. May be repeated.
 * Returns BITNET_SUCCESS or BITNET_ERROR_INTERNAL. */
BITNET_API int bitnet_init(void);

/* Stops all streams, as bitnet_stop_streaming() would, and frees what bitnet_garbage_collect()
 * does. Models stay loaded until they are freed, settings stay as they are, and the interpreter
 * stays too. May be repeated, come while others run, and be followed by bitnet_init() or any
 * other call. Never starts Python. Returns BITNET_SUCCESS. */
BITNET_API int bitnet_cleanup(void);


/* ---- Last error ------------------------------------------------------------------------------
 *
 * Every thread has its own. A call that returns int clears it on entry, so it always belongs to
 * the latest of them on this thread. (bitnet_is_gpu_available() leaves it alone.)
 */

/* What went wrong, as one line of UTF-8, or NULL when nothing did. The text belongs to the
 * library and stays valid until this thread calls bitnet_get_last_error() again, whatever else
 * it calls in between. Very long texts are cut at 4095 bytes. */
BITNET_API const char *bitnet_get_last_error(void);

/* Forgets it. */
BITNET_API void bitnet_clear_last_error(void);


/* ---- Models ---------------------------------------------------------------------------------- */

/* Values for the uint32_t fields and parameters of the same purpose below. */

typedef enum bitnet_model_format {
    BITNET_FORMAT_GGUF = 0,
    BITNET_FORMAT_SAFETENSORS = 1,
    BITNET_FORMAT_HUGGINGFACE = 2
} bitnet_model_format_t;

typedef enum bitnet_quantization_type {
    BITNET_QUANT_I2S = 0, /* 2 bits a weight */
    BITNET_QUANT_TL1 = 1, /* table look-up, made for Arm */
    BITNET_QUANT_TL2 = 2  /* table look-up, made for x86 */
} bitnet_quantization_type_t;

typedef enum bitnet_backend_preference {
    BITNET_BACKEND_AUTO = 0,
    BITNET_BACKEND_CPU = 1,
    BITNET_BACKEND_GPU = 2
} bitnet_backend_preference_t;

/* Loads a model and returns its id.
 *
 * path: a GGUF file, or a Hugging Face folder with safetensors. Told apart by content, not by
 * name. The weights are mapped, not copied: do not change the files while the model is loaded.
 *
 * Returns an id (0 or greater), or BITNET_ERROR_INVALID_ARGUMENT, BITNET_ERROR_MODEL_NOT_FOUND,
 * BITNET_ERROR_MODEL_LOAD_FAILED, BITNET_ERROR_OUT_OF_MEMORY, BITNET_ERROR_INTERNAL.
 * Loading the same file twice gives two models. A failed load spends no id.
 *
 * BITNET_ERROR_OUT_OF_MEMORY comes before anything is allocated when the model is larger than
 * what bitnet_set_memory_limit() leaves. */
BITNET_API int bitnet_model_load(const char *path);

/* Unloads a model: at once, or after the last run or stream on it that is under way.
 * Returns BITNET_SUCCESS; BITNET_ERROR_INVALID_ARGUMENT for a negative id;
 * BITNET_ERROR_INVALID_MODEL_ID for one that is not loaded, also when it is freed twice. */
BITNET_API int bitnet_model_free(int model_id);

/* Returns 1 when the model is loaded, 0 when it is not,
 * BITNET_ERROR_INVALID_ARGUMENT for a negative id. */
BITNET_API int bitnet_model_is_loaded(int model_id);


/* ---- Inference ------------------------------------------------------------------------------- */

/* Continues a prompt, with the settings of BITNET_INFERENCE_CONFIG_INIT below.
 *
 * prompt:  the text to continue. The prompt itself is not repeated in the output.
 * output:  receives the new text.
 * max_len: size of output in bytes, at least 1, including the NUL.
 *
 * Returns the number of bytes written, without the NUL. Text that does not fit is dropped after
 * the last whole character that does; that is not an error. 0 means that the model had nothing
 * to add, or that there was room for nothing but the NUL.
 *
 * Errors: BITNET_ERROR_INVALID_ARGUMENT, BITNET_ERROR_INVALID_MODEL_ID,
 * BITNET_ERROR_INFERENCE_FAILED, BITNET_ERROR_CONTEXT_LENGTH_EXCEEDED,
 * BITNET_ERROR_OUT_OF_MEMORY, BITNET_ERROR_INTERNAL. */
BITNET_API int bitnet_inference(int model_id, const char *prompt, char *output, size_t max_len);

/* How to choose the next token, and when to stop.
 *
 * Start from BITNET_INFERENCE_CONFIG_INIT and change what you need. A field out of its range
 * gives BITNET_ERROR_INVALID_ARGUMENT; fields are checked from first to last, and before it is
 * looked up whether the model exists. */
typedef struct bitnet_inference_config {
    uint32_t max_length;         /* tokens of prompt and output together; > 0. A prompt that
                                    reaches it is BITNET_ERROR_CONTEXT_LENGTH_EXCEEDED. */
    uint32_t max_new_tokens;     /* tokens of output; > 0. The model's context limits both. */
    float temperature;           /* > 0; higher is more adventurous. For greedy use do_sample. */
    uint32_t top_k;              /* choose among this many tokens; 0 = all */
    float top_p;                 /* choose among this much probability, 0 to 1; 0 = all */
    float repetition_penalty;    /* > 0; 1 = none. Divides the score of tokens seen before. */
    float frequency_penalty;     /* subtracted once per earlier occurrence; 0 = none */
    float presence_penalty;      /* subtracted once if it occurred at all; 0 = none */
    uint64_t seed;               /* same seed, same text; 0 = different every time */
    uint32_t do_sample;          /* 0 = greedy: always the most likely token */
    uint32_t backend_preference; /* bitnet_backend_preference_t */
    uint32_t enable_streaming;   /* accepted for compatibility; no effect */
    uint32_t stream_buffer_size; /* > 0; otherwise as above. bitnet_stream_config_t decides. */
} bitnet_inference_config_t;

#define BITNET_INFERENCE_CONFIG_INIT \
    { 2048, 512, 1.0f, 50, 0.9f, 1.1f, 0.0f, 0.0f, 0, 1, BITNET_BACKEND_AUTO, 0, 64 }

/* As bitnet_inference(), with settings of your own. config is only read during the call.
 * BITNET_ERROR_UNSUPPORTED_OPERATION for BITNET_BACKEND_GPU when there is no GPU. */
BITNET_API int bitnet_inference_with_config(int model_id, const char *prompt,
                                            const bitnet_inference_config_t *config, char *output,
                                            size_t max_len);


/* ---- More about models ----------------------------------------------------------------------- */

/* Settings for loading. BITNET_CONFIG_INIT gives what bitnet_model_load() does.
 *
 * The fields marked "shape" describe the model that you expect: one that the file contradicts is
 * BITNET_ERROR_MODEL_LOAD_FAILED. The file knows its own shape, so 0 and the value in
 * BITNET_CONFIG_INIT, which programs pass without meaning it, expect nothing. */
typedef struct bitnet_config {
    const char *model_path;           /* not used; the parameter decides */
    uint32_t model_format;            /* bitnet_model_format_t. 0 = tell by content; with another
                                         value any other content is an error. */
    uint32_t vocab_size;              /* shape */
    uint32_t hidden_size;             /* shape */
    uint32_t num_layers;              /* shape */
    uint32_t num_heads;               /* shape */
    uint32_t intermediate_size;       /* shape */
    uint32_t max_position_embeddings; /* tokens that a run may have. 0 and 2048 = what the model
                                         was made for, at most 4096; more than it was made for is
                                         an error. */
    uint32_t quantization_type;       /* bitnet_quantization_type_t. 0 = whatever the file holds;
                                         with another value anything else is an error. */
    uint32_t block_size;              /* not used; the file decides */
    float precision;                  /* not used; the arithmetic is exact */
    uint32_t num_threads;             /* at most 1024; 0 = as bitnet_set_num_threads() says */
    uint32_t use_gpu;                 /* not 0: BITNET_ERROR_UNSUPPORTED_OPERATION without GPU */
    uint32_t batch_size;              /* runs that are computed together, while others wait;
                                         0 and 1 = as many as there are, at most 128 */
    uint64_t memory_limit;            /* bytes for this model with its caches; 0 = none */
} bitnet_config_t;

#define BITNET_CONFIG_INIT \
    { NULL, BITNET_FORMAT_GGUF, 32000, 4096, 32, 32, 11008, 2048, BITNET_QUANT_I2S, 64, 1e-4f, 0, \
      0, 1, 0 }

/* As bitnet_model_load(), with settings. BITNET_ERROR_INVALID_ARGUMENT also for a model_format or
 * quantization_type that is not one of the above, and for numbers above the most.
 * BITNET_ERROR_UNSUPPORTED_OPERATION for use_gpu when there is no GPU. */
BITNET_API int bitnet_model_load_with_config(const char *path, const bitnet_config_t *config);

/* What a loaded model is, as its file says. */
typedef struct bitnet_model {
    const char *name;
    const char *version; /* "" when the file gives none */
    const char *architecture;
    uint32_t vocab_size;
    uint32_t context_length; /* tokens it was made for; see also max_position_embeddings */
    uint32_t hidden_size;
    uint32_t num_layers;
    uint32_t num_heads;
    uint32_t intermediate_size;
    uint32_t quantization_type; /* bitnet_quantization_type_t; 0 for all but TL1 and TL2 */
    uint64_t file_size;         /* bytes of all files that hold weights */
    uint64_t memory_usage;      /* bytes, see bitnet_get_memory_usage() */
    uint32_t is_gpu_loaded;     /* 0 or 1 */
} bitnet_model_t;

/* Fills info. The strings belong to the library and are valid until bitnet_model_free(). Returns
 * BITNET_SUCCESS, BITNET_ERROR_INVALID_ARGUMENT or BITNET_ERROR_INVALID_MODEL_ID. */
BITNET_API int bitnet_model_get_info(int model_id, bitnet_model_t *info);

/* Returns how much of the model is loaded, in percent: 100 for an id that bitnet_model_load()
 * has returned; BITNET_ERROR_INVALID_MODEL_ID for one that is not loaded. */
BITNET_API int bitnet_get_model_loading_progress(int model_id);

/* Moves a loaded model to another backend (bitnet_backend_preference_t); without a GPU it is and
 * stays on the CPU. Returns BITNET_SUCCESS,
 * BITNET_ERROR_INVALID_ARGUMENT, BITNET_ERROR_INVALID_MODEL_ID, or
 * BITNET_ERROR_UNSUPPORTED_OPERATION when there is no such backend. */
BITNET_API int bitnet_switch_model_backend(int model_id, uint32_t backend_preference);


/* ---- Threads and GPU ------------------------------------------------------------------------- */

/* Sets how many threads work on a model: 1 to 1024, but never more than there are processors. It
 * holds for all models that did not get a num_threads of their own, from their next step on.
 * Until it is called each model gets as many as make it fastest.
 *
 * 0 is not "automatic" here, as it is for num_threads of bitnet_config_t: it returns
 * BITNET_ERROR_THREAD_SAFETY, with the text "Thread safety violation: Failed to set thread count:
 * Invalid argument: num_threads must be greater than 0". That is what the published
 * implementations of this interface do, and what their tests ask for.
 *
 * Returns BITNET_SUCCESS otherwise; BITNET_ERROR_INVALID_ARGUMENT above 1024. Never starts
 * Python. */
BITNET_API int bitnet_set_num_threads(uint32_t n);

/* Returns the number set, or the number of processors. Never starts Python. */
BITNET_API uint32_t bitnet_get_num_threads(void);

/* Allows (non-zero) or forbids (0) the use of a GPU. Returns BITNET_SUCCESS, or
 * BITNET_ERROR_UNSUPPORTED_OPERATION when one is asked for and there is none that this build of
 * the library can use. Never starts Python. */
BITNET_API int bitnet_set_gpu_enabled(int enable);

/* Returns 1 when there is a GPU that this build of the library can use, else 0. */
BITNET_API int bitnet_is_gpu_available(void);


/* ---- Several prompts at once ----------------------------------------------------------------- */

/* Runs num_prompts prompts on one model, all at the same time: a step of the model reads its
 * weights once for all of them.
 *
 * prompts, outputs and max_lens have num_prompts elements: prompts[i] is continued into
 * outputs[i], which holds max_lens[i] bytes, exactly as bitnet_inference_with_config() would.
 * Nothing is run unless all arguments are right; a message such as "prompt[2] cannot be null"
 * names the element that is not.
 *
 * Returns how many prompts succeeded. Each of the others has an empty string as its output, and
 * the last error belongs to the last of them. So an unknown model gives 0.
 * BITNET_ERROR_INVALID_ARGUMENT when an argument is wrong. */
BITNET_API int bitnet_batch_inference(int model_id, const char **prompts, size_t num_prompts,
                                      const bitnet_inference_config_t *config, char **outputs,
                                      size_t *max_lens);


/* ---- Streaming -------------------------------------------------------------------------------
 *
 * Start a stream, pull pieces of text from it until it has no more, stop it:
 *
 *     int stream = bitnet_start_streaming(model, prompt, &config, &stream_config);
 *     while ((n = bitnet_stream_next_token(stream, piece, sizeof piece)) > 0)
 *         fputs(piece, stdout);
 *     bitnet_stop_streaming(stream);
 *
 * Only whole characters are handed out. Work is done by those who wait: a stream that nobody
 * reads goes on only while others run on the same model. When several threads read one stream,
 * each piece goes to one of them.
 */

/* Called with each piece that bitnet_stream_next_token() is about to return, on the thread that
 * called it. token is valid during the call. Return 0 to go on, anything else to end the stream:
 * this piece is still returned, the next call returns 0. It may call any function of the library,
 * also to stop its own stream. */
typedef int (*bitnet_stream_callback_t)(const char *token, void *user_data);

typedef struct bitnet_stream_config {
    bitnet_stream_callback_t callback; /* may be NULL */
    void *user_data;                   /* handed to callback as it is */
    uint32_t buffer_size;              /* pieces kept ready; 0 = 64 */
    uint32_t yield_interval;           /* tokens per piece; 0 = 1 */
    uint32_t enable_backpressure;      /* 0: a stream that is not read goes on to its end; else it
                                          waits while buffer_size pieces are ready */
    uint32_t timeout_ms;               /* for one call of bitnet_stream_next_token(); 0 = none */
} bitnet_stream_config_t;

#define BITNET_STREAM_CONFIG_INIT { NULL, NULL, 64, 1, 1, 5000 }

/* Starts a stream. Both configs are copied. Returns a stream id (0 or greater), or the errors of
 * bitnet_inference_with_config(), except those that only show while it runs. */
BITNET_API int bitnet_start_streaming(int model_id, const char *prompt,
                                      const bitnet_inference_config_t *config,
                                      const bitnet_stream_config_t *stream_config);

/* Waits for the next piece and writes it to token, a buffer of max_len bytes. Returns the bytes
 * written without the NUL, or 0 at the end of the stream, which leaves the buffer untouched.
 *
 * What does not fit comes with the next call. A buffer too small for even one character, which
 * takes up to 5 bytes with the NUL, is BITNET_ERROR_INVALID_ARGUMENT.
 *
 * BITNET_ERROR_INVALID_ARGUMENT for an unknown stream. BITNET_ERROR_INFERENCE_FAILED when
 * timeout_ms have passed: nothing is lost, and the next call goes on waiting. (A step that is
 * under way is finished first, and a long prompt on a slow machine takes longer than the default
 * of 5 seconds.) Other errors are those of bitnet_inference() and end the stream. */
BITNET_API int bitnet_stream_next_token(int stream_id, char *token, size_t max_len);

/* Ends a stream and releases it; a stream that has reached its end needs this too. Does not wait
 * for a thread that reads the stream. Returns BITNET_SUCCESS, or BITNET_ERROR_INVALID_ARGUMENT
 * for an unknown stream. */
BITNET_API int bitnet_stop_streaming(int stream_id);


/* ---- Measurements ---------------------------------------------------------------------------- */

/* The run on a model that ended last: of bitnet_inference(), of a stream, or all of a batch.
 * Zeros when there was none, except for gpu_utilization. */
typedef struct bitnet_performance_metrics {
    float tokens_per_second;       /* tokens_generated / total_inference_time */
    float latency_ms;              /* between one token and the next, on average */
    float memory_usage_mb;         /* of the model, in 1e6 bytes */
    float gpu_utilization;         /* 0 to 100, or -1 without GPU */
    float total_inference_time_ms; /* from the call to the last token */
    float time_to_first_token_ms;  /* from the call to the first one */
    uint32_t tokens_generated;
    uint32_t prompt_tokens;
} bitnet_performance_metrics_t;

/* Fills metrics. Returns BITNET_SUCCESS, BITNET_ERROR_INVALID_ARGUMENT or
 * BITNET_ERROR_INVALID_MODEL_ID. */
BITNET_API int bitnet_get_performance_metrics(int model_id, bitnet_performance_metrics_t *metrics);

/* Back to zeros. Returns BITNET_SUCCESS, BITNET_ERROR_INVALID_ARGUMENT or
 * BITNET_ERROR_INVALID_MODEL_ID. */
BITNET_API int bitnet_reset_performance_metrics(int model_id);


/* ---- Memory ---------------------------------------------------------------------------------- */

/* Limits what bitnet_get_memory_usage() counts; 0 = no limit. What is in use stays. A model that
 * needs more is refused before it is loaded, and a run that needs more fails by itself, both with
 * BITNET_ERROR_OUT_OF_MEMORY. Never starts Python. Returns BITNET_SUCCESS. */
BITNET_API int bitnet_set_memory_limit(uint64_t limit_bytes);

/* Returns the bytes of all models: weights, also those mapped from files; keys and values of
 * runs; buffers. Not counted are the interpreter (about 80 MB), compiled code, tokenizers, and
 * the logits of the step that runs. Never starts Python. */
BITNET_API uint64_t bitnet_get_memory_usage(void);

/* Gives back what is only kept to be faster next time: the memory of keys and values that no run
 * uses, Python's garbage, and what the C heap has free. Never starts Python.
 * Returns BITNET_SUCCESS. */
BITNET_API int bitnet_garbage_collect(void);


#ifdef __cplusplus
}
#endif

#endif /* BITNET_H */
