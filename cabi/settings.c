/* Settings of the whole library. They live here, so that they can be set and read before Python
 * runs; while it runs it is told to look at them again. */
#include "host.h"
#include "internal.h"
#include "report.h"

static struct {
    uint32_t num_threads;
    uint64_t memory_limit;
    uint32_t log_level;
    bitnet_ext_log_callback_t log_callback;
    void *log_user_data;
} settings; /* zeros: nothing set */

static int tell_python(void)
{
    int result = BITNET_ERROR_INTERNAL;
    if (!bitnet_is_running())
        return BITNET_SUCCESS;
    bitnet_host_settings_changed(&result);
    return bitnet_finish(result);
}

/* ---- Threads ---- */

int bitnet_set_num_threads(uint32_t n)
{
    (void)bitnet_begin();
    if (n == 0)
        return bitnet_fail(BITNET_ERROR_THREAD_SAFETY,
                           "Failed to set thread count: Invalid argument: "
                           "num_threads must be greater than 0");
    if (n > BITNET_MAX_THREADS)
        return bitnet_refuse("num_threads must be at most 1024");
    bitnet_settings_lock();
    settings.num_threads = n;
    bitnet_settings_unlock();
    return tell_python();
}

uint32_t bitnet_setting_num_threads(void)
{
    bitnet_settings_lock();
    uint32_t n = settings.num_threads;
    bitnet_settings_unlock();
    return n;
}

uint32_t bitnet_get_num_threads(void)
{
    uint32_t n = bitnet_setting_num_threads();
    return n != 0 ? n : bitnet_processor_count();
}

/* ---- GPU: nothing in this library runs on one, so there is nothing to look for ---- */

int bitnet_is_gpu_available(void)
{
    return 0;
}

int bitnet_require_gpu(const char *what)
{
    if (bitnet_is_gpu_available())
        return 0;
    return bitnet_fail(BITNET_ERROR_UNSUPPORTED_OPERATION, "%s: GPU not available", what);
}

int bitnet_set_gpu_enabled(int enable)
{
    (void)bitnet_begin();
    return enable ? bitnet_require_gpu("bitnet_set_gpu_enabled") : BITNET_SUCCESS;
}

/* ---- Memory ---- */

int bitnet_set_memory_limit(uint64_t limit_bytes)
{
    (void)bitnet_begin();
    bitnet_settings_lock();
    settings.memory_limit = limit_bytes;
    bitnet_settings_unlock();
    return tell_python();
}

uint64_t bitnet_setting_memory_limit(void)
{
    bitnet_settings_lock();
    uint64_t limit = settings.memory_limit;
    bitnet_settings_unlock();
    return limit;
}

uint64_t bitnet_get_memory_usage(void)
{
    uint64_t usage = 0;
    if (bitnet_is_running())
        bitnet_host_get_memory_usage(&usage);
    return usage;
}

int bitnet_garbage_collect(void)
{
    int result = bitnet_begin();
    if (!bitnet_is_running())
        return BITNET_SUCCESS;
    bitnet_host_garbage_collect(&result);
    bitnet_trim_heap();
    return bitnet_finish(result);
}

/* ---- Log ---- */

int bitnet_ext_set_log_callback(bitnet_ext_log_callback_t callback, void *user_data,
                                uint32_t level)
{
    (void)bitnet_begin();
    if (level > BITNET_EXT_LOG_DEBUG)
        return bitnet_refuse("level must be 0 (error), 1 (warning), 2 (info), or 3 (debug)");
    bitnet_settings_lock();
    settings.log_callback = callback;
    settings.log_user_data = user_data;
    settings.log_level = level;
    bitnet_settings_unlock();
    return tell_python();
}

int bitnet_setting_log_level(void)
{
    bitnet_settings_lock();
    int level = settings.log_callback != NULL ? (int)settings.log_level : -1;
    bitnet_settings_unlock();
    return level;
}

void bitnet_report_log(uint32_t level, const char *message)
{
    bitnet_settings_lock();
    bitnet_ext_log_callback_t callback = settings.log_callback;
    void *user_data = settings.log_user_data;
    int wanted = level <= settings.log_level;
    bitnet_settings_unlock();
    if (callback != NULL && wanted)
        callback(level, message, user_data);
}
