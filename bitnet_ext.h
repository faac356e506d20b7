/*
 * bitnet_ext.h - what libbitnet offers beyond bitnet.h: tokens, chat, full results, log-
 * probabilities, logits and embeddings, cancellation, log messages.
 *
 * The conventions of bitnet.h hold here too: negative ints are BITNET_ERROR_..., the last error
 * says why, ids count upwards from 0 and are never used twice, text is UTF-8, every function may
 * be called from any thread at any time.
 *
 * These functions belong to this library alone, unlike those of bitnet.h, which others provide
 * as well. A program that wants to run with any libbitnet looks them up at run time.
 *
 *
 * Structures grow. Those below begin with their size, so that a later version of the library
 * knows how much of it a program was compiled with:
 *
 *     bitnet_ext_request_t request = BITNET_EXT_REQUEST_INIT;
 *     bitnet_ext_token_t token = { sizeof token };
 *
 * A size smaller than in this header gives BITNET_ERROR_INVALID_ARGUMENT. A request that is
 * larger than the library knows gives BITNET_ERROR_UNSUPPORTED_OPERATION; of a larger structure
 * that receives an answer, the known part is filled.
 *
 * Ownership: the library keeps no pointer of yours after a call, except a callback and its
 * user_data. It hands out no pointers, only ids and copies.
 *
 * Unless more is said, functions return BITNET_ERROR_INVALID_ARGUMENT for a wrong argument,
 * BITNET_ERROR_INVALID_MODEL_ID for a model that is not loaded, BITNET_ERROR_OUT_OF_MEMORY and
 * BITNET_ERROR_INTERNAL.
 */
#ifndef BITNET_EXT_H
#define BITNET_EXT_H

#include "bitnet.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What this header describes. It only grows within a version. */
#define BITNET_EXT_VERSION 1

/* The version of the library found at run time. Never fails, never starts Python. */
BITNET_API uint32_t bitnet_ext_version(void);


/* ---- Tokens ---------------------------------------------------------------------------------- */

/* Returns how many tokens a sequence of this model may have, prompt and output together. */
BITNET_API int bitnet_ext_context_length(int model_id);

/* Flags, to be combined with |. */
enum {
    BITNET_EXT_ADD_BOS = 1,      /* begin-of-text in front, if this model's prompts have it */
    BITNET_EXT_PARSE_SPECIAL = 2 /* the spelling of a control token means that token */
};

/* Cuts text into tokens.
 *
 * ids: receives the first `capacity` of them; may be NULL when capacity is 0.
 *
 * Returns the number of tokens of the whole text, which may be more than capacity. */
BITNET_API int bitnet_ext_tokenize(int model_id, const char *text, uint32_t flags, int32_t *ids,
                                   size_t capacity);

enum {
    BITNET_EXT_SPELL_SPECIAL = 1 /* write control tokens out instead of leaving them out */
};

/* The text of n_ids tokens; bytes that are not UTF-8 become U+FFFD.
 *
 * text: receives as many whole characters as fit max_len bytes with a NUL; may be NULL when
 * max_len is 0.
 *
 * Returns the length of the whole text in bytes, without a NUL: if it is max_len or more, text
 * was cut. */
BITNET_API int bitnet_ext_detokenize(int model_id, const int32_t *ids, size_t n_ids,
                                     uint32_t flags, char *text, size_t max_len);


/* ---- Requests -------------------------------------------------------------------------------- */

/* A message of a conversation. */
typedef struct bitnet_ext_message {
    const char *role;    /* "system", "user" or "assistant", if the model's template knows it */
    const char *content;
} bitnet_ext_message_t;

#define BITNET_EXT_MAX_LOGPROBS 20

/* What to generate. Set exactly one of prompt, messages and ids. */
typedef struct bitnet_ext_request {
    size_t size;
    const char *prompt;                       /* text to continue, as for bitnet_inference() */
    const bitnet_ext_message_t *messages;     /* a conversation to answer */
    size_t n_messages;
    const int32_t *ids;                       /* tokens to continue, taken as they are */
    size_t n_ids;
    const bitnet_inference_config_t *config;  /* NULL = BITNET_INFERENCE_CONFIG_INIT */
    const char *const *stop;                  /* the text ends before the first of these */
    size_t n_stop;
    float min_p;             /* drop tokens less likely than this share of the likeliest; 0 to 1 */
    uint32_t logprobs;       /* tell each token's log-probability and those of the n likeliest;
                                0 = none, at most BITNET_EXT_MAX_LOGPROBS */
    int cancellation;        /* of bitnet_ext_cancellation_new(), or -1 */
} bitnet_ext_request_t;

#define BITNET_EXT_REQUEST_INIT \
    { sizeof(bitnet_ext_request_t), NULL, NULL, 0, NULL, 0, NULL, NULL, 0, 0.0f, 0, -1 }

typedef struct bitnet_ext_logprob {
    int32_t id;
    float logprob;
} bitnet_ext_logprob_t;

/* A new token. Log-probabilities are natural logarithms of what the model itself says, before
 * temperature, penalties and cuts. */
typedef struct bitnet_ext_token {
    size_t size;
    int32_t id;         /* -1: text that was held back and belongs to no further token */
    float logprob;      /* NaN when not asked for */
    size_t text_length; /* bytes of text that this token completed, without a NUL; may be 0 */
    uint32_t n_top;     /* elements of top that are set, likeliest first */
    bitnet_ext_logprob_t top[BITNET_EXT_MAX_LOGPROBS];
} bitnet_ext_token_t;


/* ---- Whole results ---------------------------------------------------------------------------
 *
 * A generation whose text is asked for afterwards, in the length that it really has:
 *
 *     int result = bitnet_ext_generate(model, &request);
 *     int length = bitnet_ext_result_text(result, NULL, 0);
 *     char *text = malloc(length + 1);
 *     bitnet_ext_result_text(result, text, length + 1);
 *     bitnet_ext_result_free(result);
 */

typedef enum bitnet_ext_finish_reason {
    BITNET_EXT_FINISH_STOP = 0,     /* the model ended it, or a stop string */
    BITNET_EXT_FINISH_LENGTH = 1,   /* max_new_tokens, max_length or the context */
    BITNET_EXT_FINISH_CANCELLED = 2 /* bitnet_ext_cancel() or bitnet_stop_streaming() */
} bitnet_ext_finish_reason_t;

typedef struct bitnet_ext_result_info {
    size_t size;
    uint32_t finish_reason; /* bitnet_ext_finish_reason_t */
    uint32_t prompt_tokens;
    uint32_t tokens_generated;
    float time_to_first_token_ms;
    float total_time_ms;
    size_t text_length; /* bytes, without a NUL */
} bitnet_ext_result_info_t;

/* Runs a request to its end. A cancelled one keeps what it had so far.
 *
 * Returns a result id, to be freed with bitnet_ext_result_free(); or the errors of
 * bitnet_inference_with_config(). The result outlives the model. */
BITNET_API int bitnet_ext_generate(int model_id, const bitnet_ext_request_t *request);

/* Fills info, whose size must be set. Returns BITNET_SUCCESS. BITNET_ERROR_INVALID_ARGUMENT for
 * an unknown result, as in the next three. */
BITNET_API int bitnet_ext_result_get_info(int result_id, bitnet_ext_result_info_t *info);

/* Writes as many whole characters as fit max_len bytes with a NUL; text may be NULL when max_len
 * is 0. Returns the length of the whole text in bytes, without a NUL. */
BITNET_API int bitnet_ext_result_text(int result_id, char *text, size_t max_len);

/* Fills token, whose size must be set, with new token number `index`, from 0 to
 * tokens_generated - 1. Returns BITNET_SUCCESS. */
BITNET_API int bitnet_ext_result_token(int result_id, size_t index, bitnet_ext_token_t *token);

/* Forgets a result. Returns BITNET_SUCCESS. */
BITNET_API int bitnet_ext_result_free(int result_id);


/* ---- Streams of tokens ----------------------------------------------------------------------- */

/* As bitnet_start_streaming(), for any request. stream_config may be NULL, for
 * BITNET_STREAM_CONFIG_INIT. The stream may be read with bitnet_stream_next_token() as well as
 * with the function below, and is ended with bitnet_stop_streaming(). */
BITNET_API int bitnet_ext_start_streaming(int model_id, const bitnet_ext_request_t *request,
                                          const bitnet_stream_config_t *stream_config);

/* Waits for the next token of any stream. yield_interval and callback have no effect here.
 *
 * token: its size must be set; the rest is filled.
 * text:  receives the text_length bytes of text that the token completed, and a NUL.
 *
 * Returns 1 with a token and 0 at the end of the stream, which leaves token and text untouched.
 * Errors are those of bitnet_stream_next_token(). When text is too small for this token the
 * error is BITNET_ERROR_INVALID_ARGUMENT, and the next call gives the same token. */
BITNET_API int bitnet_ext_stream_next(int stream_id, bitnet_ext_token_t *token, char *text,
                                      size_t max_len);


/* ---- Cancellation ----------------------------------------------------------------------------
 *
 * A handle that ends all requests started with it: those that run, at the next token or within a
 * step of prompt tokens, and those that come later, at once. bitnet_ext_cancel() does not wait.
 */

/* Returns a cancellation id, to be freed with bitnet_ext_cancellation_free(). */
BITNET_API int bitnet_ext_cancellation_new(void);

/* Cancels. May be repeated. Returns BITNET_SUCCESS; BITNET_ERROR_INVALID_ARGUMENT for an unknown
 * id. */
BITNET_API int bitnet_ext_cancel(int cancellation_id);

/* Forgets a handle; requests started with it go on. Returns BITNET_SUCCESS;
 * BITNET_ERROR_INVALID_ARGUMENT for an unknown id. */
BITNET_API int bitnet_ext_cancellation_free(int cancellation_id);


/* ---- Numbers --------------------------------------------------------------------------------- */

/* The logits of every next token after each prefix of ids.
 *
 * logits: receives n_ids rows of vocab_size floats (see bitnet_model_get_info()).
 * capacity: floats that logits holds, at least n_ids * vocab_size.
 *
 * Returns BITNET_SUCCESS. BITNET_ERROR_INVALID_ARGUMENT also for an id outside the vocabulary,
 * BITNET_ERROR_CONTEXT_LENGTH_EXCEEDED for too many ids. */
BITNET_API int bitnet_ext_logits(int model_id, const int32_t *ids, size_t n_ids, float *logits,
                                 size_t capacity);

typedef enum bitnet_ext_pooling {
    BITNET_EXT_POOLING_NONE = 0, /* n_ids rows, one for each token */
    BITNET_EXT_POOLING_MEAN = 1, /* one row, their mean */
    BITNET_EXT_POOLING_LAST = 2  /* one row, that of the last token */
} bitnet_ext_pooling_t;

/* The hidden states of ids after the final norm, which the output head would read.
 *
 * embeddings: receives rows of hidden_size floats (see bitnet_model_get_info()).
 * capacity: floats that embeddings holds, enough for the rows of the pooling.
 *
 * Returns as bitnet_ext_logits(). */
BITNET_API int bitnet_ext_embeddings(int model_id, const int32_t *ids, size_t n_ids,
                                     uint32_t pooling, float *embeddings, size_t capacity);


/* ---- Log ------------------------------------------------------------------------------------- */

typedef enum bitnet_ext_log_level {
    BITNET_EXT_LOG_ERROR = 0,
    BITNET_EXT_LOG_WARNING = 1,
    BITNET_EXT_LOG_INFO = 2, /* loaded and freed models */
    BITNET_EXT_LOG_DEBUG = 3 /* every run */
} bitnet_ext_log_level_t;

/* message is one line of UTF-8, valid during the call. The callback runs on whichever thread has
 * something to say, within a call of that thread or on a thread of the library, on several at the
 * same time, and must not call this library. */
typedef void (*bitnet_ext_log_callback_t)(uint32_t level, const char *message, void *user_data);

/* Sends messages up to `level` to callback; NULL ends that. Without a callback nothing is
 * written anywhere. A message that is being delivered on another thread may still arrive after
 * the change. Never starts Python. Returns BITNET_SUCCESS. */
BITNET_API int bitnet_ext_set_log_callback(bitnet_ext_log_callback_t callback, void *user_data,
                                           uint32_t level);


#ifdef __cplusplus
}
#endif

#endif /* BITNET_EXT_H */
