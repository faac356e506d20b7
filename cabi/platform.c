/* The few things that POSIX and Windows do differently. */
#if !defined(_WIN32)
#  define _GNU_SOURCE /* dladdr */
#endif

#include "internal.h"

#if defined(_WIN32)

#include <windows.h>

static SRWLOCK lock = SRWLOCK_INIT;
static SRWLOCK settings_lock = SRWLOCK_INIT;

void bitnet_lock(void)
{
    AcquireSRWLockExclusive(&lock);
}

void bitnet_unlock(void)
{
    ReleaseSRWLockExclusive(&lock);
}

void bitnet_settings_lock(void)
{
    AcquireSRWLockExclusive(&settings_lock);
}

void bitnet_settings_unlock(void)
{
    ReleaseSRWLockExclusive(&settings_lock);
}

void bitnet_trim_heap(void)
{
    HeapCompact(GetProcessHeap(), 0);
}

/* There is no fork(). */
void bitnet_on_fork(void (*in_child)(void))
{
    (void)in_child;
}

uint32_t bitnet_processor_count(void)
{
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return info.dwNumberOfProcessors;
}

/* Paths are UTF-8 inside the shim. Returns 0 or -1. */
static int to_wide(const char *path, wchar_t *wide, int size)
{
    return MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, size) > 0 ? 0 : -1;
}

int bitnet_file_exists(const char *path)
{
    wchar_t wide[BITNET_PATH_SIZE];
    return to_wide(path, wide, BITNET_PATH_SIZE) == 0 &&
           GetFileAttributesW(wide) != INVALID_FILE_ATTRIBUTES;
}

int bitnet_module_path(void (*function)(void), char *path, size_t size)
{
    HMODULE module;
    wchar_t wide[BITNET_PATH_SIZE];
    DWORD flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS |
                  GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
    if (!GetModuleHandleExW(flags, (LPCWSTR)(uintptr_t)function, &module))
        return -1;
    DWORD length = GetModuleFileNameW(module, wide, BITNET_PATH_SIZE);
    if (length == 0 || length == BITNET_PATH_SIZE)
        return -1;
    return WideCharToMultiByte(CP_UTF8, 0, wide, -1, path, (int)size, NULL, NULL) > 0 ? 0 : -1;
}

void bitnet_keep_loaded(const char *path, int share)
{
    HMODULE module;
    wchar_t wide[BITNET_PATH_SIZE];
    (void)share; /* Windows has no global symbol scope */
    if (to_wide(path, wide, BITNET_PATH_SIZE) == 0)
        GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN, wide, &module);
}

#else

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__APPLE__)
#  include <malloc/malloc.h>
#elif defined(__GLIBC__)
#  include <malloc.h>
#endif

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t settings_lock = PTHREAD_MUTEX_INITIALIZER;

void bitnet_lock(void)
{
    pthread_mutex_lock(&lock);
}

void bitnet_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

void bitnet_settings_lock(void)
{
    pthread_mutex_lock(&settings_lock);
}

void bitnet_settings_unlock(void)
{
    pthread_mutex_unlock(&settings_lock);
}

void bitnet_trim_heap(void)
{
#if defined(__APPLE__)
    malloc_zone_pressure_relief(NULL, 0);
#elif defined(__GLIBC__)
    malloc_trim(0);
#endif /* others, such as musl, give memory back by themselves */
}

void bitnet_on_fork(void (*in_child)(void))
{
    /* No other thread holds the lock of the settings when the process is copied. */
    pthread_atfork(bitnet_settings_lock, bitnet_settings_unlock, bitnet_settings_unlock);
    pthread_atfork(NULL, NULL, in_child);
}

uint32_t bitnet_processor_count(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (uint32_t)count : 1;
}

int bitnet_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

int bitnet_module_path(void (*function)(void), char *path, size_t size)
{
    Dl_info info;
    if (dladdr((void *)(uintptr_t)function, &info) == 0)
        return -1;
    char *absolute = realpath(info.dli_fname, NULL);
    if (absolute == NULL)
        return -1;
    size_t length = strlen(absolute);
    if (length < size)
        memcpy(path, absolute, length + 1);
    free(absolute);
    return length < size ? 0 : -1;
}

void bitnet_keep_loaded(const char *path, int share)
{
    /* The handle is kept on purpose. RTLD_NOLOAD finds the library that is already there. */
    (void)dlopen(path, RTLD_NOW | RTLD_NOLOAD | (share ? RTLD_GLOBAL : RTLD_LOCAL));
}

#endif
