/* What Python may call in C. */
#ifndef BITNET_CABI_REPORT_H
#define BITNET_CABI_REPORT_H

#include <stddef.h>
#include <stdint.h>

/* Records an error of the calling thread: length bytes of UTF-8, NULs allowed. */
void bitnet_report_error(int code, const char *text, size_t length);

/* Hands a message to the log callback, if it wants messages of that level. */
void bitnet_report_log(uint32_t level, const char *message);

/* What has been set through the functions of bitnet.h and bitnet_ext.h. */
uint32_t bitnet_setting_num_threads(void);  /* 0 = not set */
uint64_t bitnet_setting_memory_limit(void); /* 0 = none */
int bitnet_setting_log_level(void);         /* -1 = no callback */

#endif
