/* Turns a program that carries CPython into an ordinary `python`.
 *
 * The interpreter in freeze-core's wheels is a real, statically linked CPython that exports the whole C API, but its
 * own `main` starts a frozen program. Every program hands its `main` to libc's `__libc_start_main`. This library
 * stands before libc among the libraries that the program needs, so the program's call comes here instead; it is
 * passed on to libc with `Py_BytesMain`, the `main` of an ordinary `python`, in place of the program's own. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef int (*Main)(int, char **, char **);
typedef int (*StartMain)(Main, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);

int __libc_start_main(Main own_main, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end)
{
    StartMain start_main = (StartMain)dlsym(RTLD_NEXT, "__libc_start_main");
    /* Takes no third argument; C's calling convention lets it ignore the one that it is given. */
    Main python_main = (Main)dlsym(RTLD_DEFAULT, "Py_BytesMain");
    if (start_main == NULL || python_main == NULL) {
        fputs("start_main: this program is not a CPython interpreter\n", stderr);
        abort();
    }
    (void)own_main;
    return start_main(python_main, argc, argv, init, fini, rtld_fini, stack_end);
}
