/* Tells ThreadSanitizer what critical sections order.
 *
 * CPython is not instrumented, so the sanitizer does not see its mutexes, and would take everything that two threads do in
 * turn under a critical section for a data race. The linker puts the functions of this file in the place of the ones they wrap
 * (`--wrap`), in the extension module only; each calls the original and says what that has done.
 *
 * A section is suspended while its thread is detached, or in another section, and taken again afterwards: the innermost when the
 * thread attaches, the one around it when the inner one ends. Calls that may run any code may detach in the middle. Each thread releases all
 * its sections whenever it may lose one, which is more than it loses: a race that only those sections prevent from being one is not
 * found there, and what is reported is none of the sections' making. */

#include <stddef.h>

void __tsan_acquire(void *);
void __tsan_release(void *);

enum { DEEPEST = 64 };

struct section {
    void *lock, *other;
};

static _Thread_local struct section entered[DEEPEST];
static _Thread_local int depth;

/* Shutting down, the interpreter stops all threads but one, whatever they were in. */
static char everybody;

int Py_IsFinalizing(void);

static void release_all(void)
{
    __tsan_release(&everybody);
    for (int i = 0; i < depth && i < DEEPEST; i++) {
        __tsan_release(entered[i].lock);
        if (entered[i].other != NULL) {
            __tsan_release(entered[i].other);
        }
    }
}

static void acquire_innermost(void)
{
    if (depth == 0 || depth > DEEPEST) {
        return;
    }
    __tsan_acquire(entered[depth - 1].lock);
    if (entered[depth - 1].other != NULL) {
        __tsan_acquire(entered[depth - 1].other);
    }
}

static void enter(void *lock, void *other)
{
    if (depth < DEEPEST) {
        entered[depth] = (struct section){lock, other};
    }
    depth++;
    acquire_innermost();
    if (Py_IsFinalizing()) {
        __tsan_acquire(&everybody);
    }
}

/* What is called with the section still held. */
static void leave(void)
{
    release_all();
    depth--;
}

#define BEGIN(function)                                        \
    void __real_##function(void *section, void *lock);         \
    void __wrap_##function(void *section, void *lock)          \
    {                                                          \
        release_all();                                         \
        __real_##function(section, lock);                      \
        enter(lock, NULL);                                     \
    }

#define BEGIN2(function)                                                 \
    void __real_##function(void *section, void *lock, void *other);      \
    void __wrap_##function(void *section, void *lock, void *other)       \
    {                                                                    \
        release_all();                                                   \
        __real_##function(section, lock, other);                         \
        enter(lock, other);                                              \
    }

#define END(function)                              \
    void __real_##function(void *section);         \
    void __wrap_##function(void *section)          \
    {                                              \
        leave();                                   \
        __real_##function(section);                \
        acquire_innermost();                       \
    }

BEGIN(PyCriticalSection_Begin)
BEGIN(PyCriticalSection_BeginMutex)
BEGIN2(PyCriticalSection2_Begin)
BEGIN2(PyCriticalSection2_BeginMutex)
END(PyCriticalSection_End)
END(PyCriticalSection2_End)

void *__real_PyEval_SaveThread(void);
void *__wrap_PyEval_SaveThread(void)
{
    release_all();
    return __real_PyEval_SaveThread();
}

void __real_PyEval_RestoreThread(void *);
void __wrap_PyEval_RestoreThread(void *thread_state)
{
    __real_PyEval_RestoreThread(thread_state);
    acquire_innermost();
}

/* Calls that may run any code: those that tests make in a section. */

#define CALL(type, function, parameters, arguments) \
    type __real_##function parameters;              \
    type __wrap_##function parameters               \
    {                                               \
        release_all();                              \
        type result = __real_##function arguments;  \
        acquire_innermost();                        \
        return result;                              \
    }

CALL(void *, PyEval_EvalCode, (void *code, void *globals, void *locals), (code, globals, locals))
CALL(void *, PyImport_Import, (void *name), (name))
CALL(void *, PyObject_CallNoArgs, (void *callable), (callable))
CALL(void *, PyObject_CallOneArg, (void *callable, void *argument), (callable, argument))
CALL(void *, PyObject_GetAttr, (void *object, void *name), (object, name))
CALL(void *, PyObject_GetItem, (void *object, void *key), (object, key))
CALL(int, PyObject_SetItem, (void *object, void *key, void *value), (object, key, value))
CALL(void *, PyObject_Vectorcall, (void *callable, void *const *arguments, size_t count, void *names), (callable, arguments, count, names))
CALL(void *, PyObject_VectorcallMethod, (void *name, void *const *arguments, size_t count, void *names), (name, arguments, count, names))

void __real__Py_DecRef(void *);
void __wrap__Py_DecRef(void *object)
{
    release_all();
    __real__Py_DecRef(object);
    acquire_innermost();
}
