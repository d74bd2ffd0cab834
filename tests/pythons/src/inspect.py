import json, platform, sys, sysconfig

print(json.dumps({
    "implementation": sys.implementation.name,
    "executable": sys.executable,
    "version": platform.python_version(),
    "minor": sys.version_info.minor,
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "gil_enabled": getattr(sys, "_is_gil_enabled", lambda: True)(),
}))
