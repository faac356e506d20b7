/* Starts Python, or joins the one that already runs in this process.
 *
 * cffi would do it by itself with Py_InitializeEx(), but that looks for Python's files as the
 * `python3` command would, finds no virtual environment, and ends the process when it fails.
 * So the interpreter is configured and started here; cffi then finds it running. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build_config.h" /* generated: BITNET_BUILD_... */
#include "internal.h"

static enum { NOT_STARTED, RUNNING, FAILED } state;
static char failure[BITNET_ERROR_TEXT_SIZE]; /* why not RUNNING */

/* Is this the child of a process that had begun to start Python? The threads that held its locks
 * are not here to release them. Set by the only thread there is, so it needs no lock itself. */
static int forked;

static void note_fork(void)
{
    forked = 1;
}

static int refuse(const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 1, 2)))
#endif
    ;

/* Says why Python cannot start. Returns -1. */
static int refuse(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(failure, sizeof failure, format, arguments) < 0)
        failure[0] = '\0';
    va_end(arguments);
    return -1;
}

/* Asks for what Python itself looks for first, and complains loudly about. */
static int has_standard_library(const char *home)
{
    char path[BITNET_PATH_SIZE];
    int length =
        snprintf(path, sizeof path, "%s/%s/encodings/__init__.py", home, BITNET_BUILD_STDLIB);
    return length > 0 && (size_t)length < sizeof path && bitnet_file_exists(path);
}

/* Cuts the last part off a path. Returns 0 when there is none. */
static int to_parent(char *path)
{
    for (size_t i = strlen(path); i-- > 1;) {
        if (path[i] == '/' || path[i] == '\\') {
            path[i] = '\0';
            return 1;
        }
    }
    return 0;
}

/* Finds the folder that holds lib/python3.x: the one the user names, else one above libpython,
 * else the one known at build time. Writes it to home and returns 0, or explains in failure. */
static int find_home(const char *libpython, char home[BITNET_PATH_SIZE])
{
    const char *named = getenv("BITNET_PYTHON_HOME");
    if (named != NULL && named[0] != '\0') {
        snprintf(home, BITNET_PATH_SIZE, "%s", named);
        if (has_standard_library(home))
            return 0;
        return refuse("no standard library: looked in %s/%s (from BITNET_PYTHON_HOME)", named,
                      BITNET_BUILD_STDLIB);
    }
    snprintf(home, BITNET_PATH_SIZE, "%s", libpython);
    while (to_parent(home))
        if (has_standard_library(home))
            return 0;
    snprintf(home, BITNET_PATH_SIZE, "%s", BITNET_BUILD_HOME);
    if (has_standard_library(home))
        return 0;
    return refuse("no standard library: looked in %s/%s and above %s", BITNET_BUILD_HOME,
                  BITNET_BUILD_STDLIB, libpython);
}

/* An interpreter that minds its own business: no environment variables, no user folders, no
 * signal handlers, no locale changes, and UTF-8 file names in every locale. `site` is left to the
 * bootstrap code, where a failure can be caught. */
static PyStatus initialize(const char *home)
{
    PyPreConfig preconfig;
    PyPreConfig_InitIsolatedConfig(&preconfig);
    preconfig.utf8_mode = 1;
    PyStatus status = Py_PreInitialize(&preconfig);
    if (PyStatus_Exception(status))
        return status;

    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = 0;
    status = PyConfig_SetBytesString(&config, &config.home, home);
    if (!PyStatus_Exception(status) && bitnet_file_exists(BITNET_BUILD_EXECUTABLE))
        status = PyConfig_SetBytesString(&config, &config.executable, BITNET_BUILD_EXECUTABLE);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    return status;
}

/* The first import of Python's signal module takes over Ctrl-C unless the program has its own
 * handler. So it is imported now, rather than by whoever needs it, and Ctrl-C given back. */
static void import_signal(void)
{
    PyOS_sighandler_t before = PyOS_getsig(SIGINT);
    PyObject *module = PyImport_ImportModule("signal");
    if (module == NULL)
        PyErr_Clear();
    Py_XDECREF(module);
    if (PyOS_getsig(SIGINT) != before)
        PyOS_setsig(SIGINT, before);
}

static int start_interpreter(void)
{
    char libpython[BITNET_PATH_SIZE] = "";
    char home[BITNET_PATH_SIZE];
    if (bitnet_module_path((void (*)(void))Py_IsInitialized, libpython, sizeof libpython) == 0)
        /* Where extension modules are not linked with libpython they find its symbols only if
         * they are global, and a host that used RTLD_LOCAL has made them local. */
        bitnet_keep_loaded(libpython, 1);
    if (find_home(libpython, home) != 0)
        return -1;
    PyStatus status = initialize(home);
    if (PyStatus_Exception(status)) {
        state = FAILED;
        return refuse("%s; looked in %s",
                      status.err_msg != NULL ? status.err_msg : "no reason given", home);
    }
    import_signal();
    PyEval_SaveThread(); /* nobody holds the GIL between calls */
    return 0;
}

/* Turns the current Python exception into text. */
static void describe_exception(void)
{
    PyObject *type = NULL, *value = NULL, *traceback = NULL;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *message = value != NULL ? PyObject_Str(value) : NULL;
    const char *text = message != NULL ? PyUnicode_AsUTF8(message) : NULL;
    refuse("%s: %s", type != NULL ? ((PyTypeObject *)type)->tp_name : "error",
           text != NULL ? text : "no reason given");
    Py_XDECREF(message);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    PyErr_Clear();
}

/* Runs cabi/bootstrap.py, which makes the bitnet package importable. */
static int run_bootstrap(const char *library)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *result = NULL;
    PyObject *code = Py_CompileString(BITNET_BUILD_BOOTSTRAP, "libbitnet", Py_file_input);
    PyObject *globals =
        Py_BuildValue("{s:s,s:O,s:N}", "__name__", "libbitnet", "__builtins__",
                      PyEval_GetBuiltins(), "LIBRARY", PyUnicode_DecodeFSDefault(library));
    if (code != NULL && globals != NULL)
        result = PyEval_EvalCode(code, globals, globals);
    if (result == NULL)
        describe_exception();
    int status = result != NULL ? 0 : -1;
    Py_XDECREF(result);
    Py_XDECREF(globals);
    Py_XDECREF(code);
    PyGILState_Release(gil);
    return status;
}

static int has_right_version(void)
{
    char wanted[16];
    int length = snprintf(wanted, sizeof wanted, "%d.%d", PY_MAJOR_VERSION, PY_MINOR_VERSION);
    const char *found = Py_GetVersion();
    if (strncmp(found, wanted, (size_t)length) == 0 && (found[length] < '0' || found[length] > '9'))
        return 1;
    refuse("built for Python %s, but this process has Python %.16s", wanted, found);
    return 0;
}

static void start(void)
{
    static int watches_forks;
    char library[BITNET_PATH_SIZE] = "";
    if (!watches_forks)
        bitnet_on_fork(note_fork);
    watches_forks = 1;
    if (!has_right_version())
        return;
    if (bitnet_module_path((void (*)(void))bitnet_init, library, sizeof library) == 0)
        /* Python keeps pointers into this library, so it must not be unloaded. */
        bitnet_keep_loaded(library, 0);
    if (!Py_IsInitialized() && start_interpreter() != 0)
        return;
    if (run_bootstrap(library) != 0)
        return;
    if (bitnet_start_cffi() == 0) {
        state = RUNNING;
        return;
    }
    refuse("cffi could not load its module");
    state = FAILED;
}

int bitnet_is_running(void)
{
    if (forked)
        return 0;
    bitnet_lock();
    int running = state == RUNNING;
    bitnet_unlock();
    return running;
}

/* What can be put right while the process runs, such as a missing package, is tried again by the
 * next call. FAILED is final: neither Python nor cffi can be started twice. */
int bitnet_start(void)
{
    int code = 0;
    if (forked)
        return bitnet_fail(BITNET_ERROR_INTERNAL,
                           "this process was forked from one that had used the library; only the "
                           "parent can go on using it");
    bitnet_lock();
    if (state == NOT_STARTED)
        start();
    if (state != RUNNING)
        code = bitnet_fail(BITNET_ERROR_INTERNAL, "cannot start Python: %s", failure);
    bitnet_unlock();
    return code;
}
