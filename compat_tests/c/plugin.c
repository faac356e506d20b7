/* A host opens the library itself and runs a model. Arguments: the library, a model, "local" or
 * "global" symbols, bound "now" or "lazy". */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "bitnet.h"

typedef int (*load_function)(const char *);
typedef int (*inference_function)(int, const char *, char *, size_t);
typedef int (*free_function)(int);

int main(int argc, char **argv)
{
    char output[64];
    if (argc != 5)
        return 2;
    int scope = strcmp(argv[3], "local") == 0 ? RTLD_LOCAL : RTLD_GLOBAL;
    int binding = strcmp(argv[4], "now") == 0 ? RTLD_NOW : RTLD_LAZY;
    void *library = dlopen(argv[1], scope | binding);
    if (library == NULL) {
        puts(dlerror());
        return 1;
    }
    load_function load = (load_function)(uintptr_t)dlsym(library, "bitnet_model_load");
    inference_function infer = (inference_function)(uintptr_t)dlsym(library, "bitnet_inference");
    free_function unload = (free_function)(uintptr_t)dlsym(library, "bitnet_model_free");
    int model = load(argv[2]);
    if (model < 0 || infer(model, "Once", output, sizeof output) <= 0 || unload(model) != 0)
        return 1;
    return dlclose(library);
}
