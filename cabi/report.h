/* What Python may call in C. */
#ifndef BITNET_CABI_REPORT_H
#define BITNET_CABI_REPORT_H

#include <stddef.h>

/* Records an error of the calling thread: length bytes of UTF-8, NULs allowed. */
void bitnet_report_error(int code, const char *text, size_t length);

#endif
