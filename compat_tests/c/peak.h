/* The greatest amount of memory this process has had in use. */
#ifndef PEAK_H
#define PEAK_H

#include <sys/resource.h>

#include "check.h"

static inline long long peak_bytes(void)
{
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
#if defined(__APPLE__)
    return usage.ru_maxrss;
#else
    return usage.ru_maxrss * 1024LL;
#endif
}

#endif
