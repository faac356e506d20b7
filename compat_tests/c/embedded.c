/* A host with a Python of its own, started before the library is used; other threads than the
 * one that started it call the library. Argument: a model. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <pthread.h>

#include "check.h"

static void *use(void *path)
{
    char output[64];
    int model = bitnet_model_load(path);
    CHECK(model >= 0);
    CHECK(bitnet_inference(model, "Once", output, sizeof output) > 0);
    CHECK(bitnet_model_free(model) == BITNET_SUCCESS);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    CHECK(argc == 2);
    Py_Initialize();
    CHECK(PyRun_SimpleString("import sys\nkept = sys.version") == 0);
    PyThreadState *state = PyEval_SaveThread();
    use(argv[1]);
    CHECK(pthread_create(&thread, NULL, use, argv[1]) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    PyEval_RestoreThread(state);
    CHECK(PyRun_SimpleString("assert kept == sys.version") == 0);
    use(argv[1]); /* a call that keeps the GIL is served as well */
    CHECK(Py_FinalizeEx() == 0);
    return 0;
}
