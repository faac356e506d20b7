/* Checks for test programs: they say what they expected and end the program with 1. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bitnet.h"

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);      \
            print_last_error();                                                 \
            exit(1);                                                            \
        }                                                                       \
    } while (0)

/* The call must return `code` and leave an error that reads exactly `text`. */
#define CHECK_FAILS(call, code, text)                                           \
    do {                                                                        \
        long long got = (call);                                                 \
        const char *said = bitnet_get_last_error();                             \
        if (got != (code) || said == NULL || strcmp(said, (text)) != 0) {       \
            printf("%s:%d: %s\n  returned %lld: %s\n  expected %d: %s\n",       \
                   __FILE__, __LINE__, #call, got, said != NULL ? said : "-",   \
                   (int)(code), (text));                                        \
            exit(1);                                                            \
        }                                                                       \
    } while (0)

static inline void print_last_error(void)
{
    const char *text = bitnet_get_last_error();
    printf("  last error: %s\n", text != NULL ? text : "none");
}

#endif
