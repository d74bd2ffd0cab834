
# Added by `cargo xtask python`. The table above describes Debian's own build of this version; what differs in this
# interpreter is computed here when it runs, so that its folder can be moved.
import sys


def _differences():
    version = "{}.{}".format(*sys.version_info)
    name = version + sys.abiflags
    free_threaded = "t" in sys.abiflags
    abi = "cpython-{}{}{}-{}".format(*sys.version_info[:2], sys.abiflags, sys.implementation._multiarch)
    prefix = sys.base_prefix
    library = f"{prefix}/lib"
    modules = f"{library}/python{name}"
    include = f"{prefix}/include"
    static_library = f"libpython{name}.a"
    return {
        "ABIFLAGS": sys.abiflags,
        "ABI_THREAD": "t" if free_threaded else "",
        "EXT_SUFFIX": f".{abi}.so",
        "LDVERSION": name,
        "Py_GIL_DISABLED": int(free_threaded),
        "SOABI": abi,
        "VERSION": version,
        # Linked statically, into an executable that extension modules find the C API in.
        "BLDLIBRARY": static_library,
        "INSTSONAME": static_library,
        "LDLIBRARY": static_library,
        "LIBRARY": static_library,
        "PY3LIBRARY": "",
        "Py_ENABLE_SHARED": 0,
        "RUNSHARED": "",
        # Where things are.
        "BINDIR": f"{prefix}/bin",
        "BINLIBDEST": modules,
        "CONFINCLUDEDIR": include,
        "CONFINCLUDEPY": f"{include}/python{name}",
        "DESTLIB": modules,
        "DESTSHARED": f"{modules}/lib-dynload",
        "EXENAME": f"{prefix}/bin/python{name}",
        "INCLUDEDIR": include,
        "INCLUDEPY": f"{include}/python{name}",
        "LIBDEST": modules,
        "LIBDIR": library,
        "LIBPL": f"{modules}/config-{name}-{sys.implementation._multiarch}",
        "MACHDESTLIB": modules,
        "SCRIPTDIR": library,
        "WHEEL_PKG_DIR": "",
        "exec_prefix": prefix,
        "prefix": prefix,
        # How it was configured, as far as anybody asks.
        "CONFIG_ARGS": "'--disable-gil'" if free_threaded else "",
    }


build_time_vars.update(_differences())
