/* What the files of the shim share. Nothing here is exported. */
#ifndef BITNET_CABI_INTERNAL_H
#define BITNET_CABI_INTERNAL_H

#include "bitnet_ext.h"

/* Leaves the function with the error of a check, if there is one. */
#define TRY(check)                \
    do {                          \
        int try_code = (check);   \
        if (try_code != 0)        \
            return try_code;      \
    } while (0)

/* ---- core.c: what every int-returning function starts and ends with ---- */

/* Clears the last error. Returns BITNET_ERROR_INTERNAL, the preset for what Python answers. */
int bitnet_begin(void);

/* Returns result. An answer that Python never gave is still the preset and has no text yet. */
int bitnet_finish(int result);

/* ---- last_error.c: the text behind bitnet_get_last_error() ---- */

#define BITNET_ERROR_TEXT_SIZE 4096

/* Records "prefix of the code: formatted text" for this thread and returns code. */
int bitnet_fail(int code, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* bitnet_fail() with BITNET_ERROR_INVALID_ARGUMENT and a fixed text. */
int bitnet_refuse(const char *text);

/* Is there an error? (bitnet_get_last_error() would end the life of the text it gave before.) */
int bitnet_has_error(void);

/* ---- check.c, ext_check.c: is an argument what it claims to be? ---- */

#define BITNET_MAX_THREADS 1024

/* Returns length, or less when that would cut a character of the UTF-8 text in two. */
size_t bitnet_utf8_cut(const char *text, size_t length);

/* These return 0, or record an error and return BITNET_ERROR_INVALID_ARGUMENT; for what is right
 * but not to be had, BITNET_ERROR_UNSUPPORTED_OPERATION. */
int bitnet_check_id(int id, const char *name);
int bitnet_check_pointer(const void *pointer, const char *name);
int bitnet_check_buffer(const void *buffer, const char *name, size_t max_len);
int bitnet_check_utf8(const char *text, const char *name);
int bitnet_check_config(const bitnet_config_t *config);
int bitnet_check_inference_config(const bitnet_inference_config_t *config);
int bitnet_check_backend(uint32_t backend_preference);
int bitnet_check_request(const bitnet_ext_request_t *request);

/* The size that a structure begins with, and the one that this library knows. */
int bitnet_check_size(size_t size, size_t known, const char *name);

/* ids may be read: n_ids of them. */
int bitnet_check_ids(const int32_t *ids, size_t n_ids);

/* ---- settings.c ---- */

/* Returns 0, or BITNET_ERROR_UNSUPPORTED_OPERATION when there is no GPU for `what`. */
int bitnet_require_gpu(const char *what);

/* ---- start.c: the interpreter ---- */

/* Makes sure that Python runs and the functions of host.h can be called. Returns 0, or records
 * why not and returns BITNET_ERROR_INTERNAL. */
int bitnet_start(void);

/* Has a call of bitnet_start() succeeded? */
int bitnet_is_running(void);

/* In the source made by build_cffi.py: hands over to cffi. Returns 0 or -1. */
int bitnet_start_cffi(void);

/* ---- platform.c: what POSIX and Windows do differently ---- */

#define BITNET_PATH_SIZE 4096

#if defined(_MSC_VER)
#  define BITNET_THREAD_LOCAL __declspec(thread)
#else
#  define BITNET_THREAD_LOCAL _Thread_local
#endif

void bitnet_lock(void);
void bitnet_unlock(void);

/* A second lock, held only for a moment. */
void bitnet_settings_lock(void);
void bitnet_settings_unlock(void);

void bitnet_on_fork(void (*in_child)(void)); /* call it in every child process from now on */
uint32_t bitnet_processor_count(void);

/* Gives memory that malloc() keeps for later back to the system. */
void bitnet_trim_heap(void);

int bitnet_file_exists(const char *path);

/* Absolute path of the program or library that holds the given function. Returns 0 or -1. */
int bitnet_module_path(void (*function)(void), char *path, size_t size);

/* Keeps a loaded library loaded, whatever dlclose() says, and its symbols visible to others when
 * share is set. */
void bitnet_keep_loaded(const char *path, int share);

#endif
