import json, os, sys, sysconfig

folder, library = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
shared = sysconfig.get_config_var("Py_ENABLE_SHARED") and folder and library
there = shared and os.path.exists(os.path.join(folder, library))
print(json.dumps({
    "libraries": folder if there else None,
    "home": sys.base_prefix,
    "packages": sysconfig.get_path("platlib"),
}))
