/* A host that knows nothing of Python loads the library as a plugin, keeps its symbols to itself
 * and unloads it again. Arguments: the library, a path where there is no model. */
#include <dlfcn.h>
#include <stdint.h>

#include "check.h"

typedef int (*load_function)(const char *);
typedef const char *(*text_function)(void);

static uintptr_t symbol(void *library, const char *name)
{
    void *address = dlsym(library, name);
    if (address == NULL) {
        puts(dlerror());
        exit(1);
    }
    return (uintptr_t)address;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    for (int round = 0; round < 3; round++) {
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) {
            puts(dlerror());
            return 1;
        }
        load_function load = (load_function)symbol(library, "bitnet_model_load");
        text_function text = (text_function)symbol(library, "bitnet_get_last_error");
        if (load(argv[2]) != BITNET_ERROR_MODEL_NOT_FOUND) {
            puts(text());
            return 1;
        }
        dlclose(library);
    }
    /* Python keeps pointers into the library, so it has stayed. */
    if (dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) == NULL) {
        puts("the library was unloaded");
        return 1;
    }
    return 0;
}
