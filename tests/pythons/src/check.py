"""What an assembled interpreter must be able to do before it is kept."""

import asyncio
import ctypes
import faulthandler
import multiprocessing
import socket
import sqlite3
import ssl
import subprocess
import sys
import sysconfig
import threading

import _interpreters

free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
assert sys._is_gil_enabled() != free_threaded
assert sysconfig.get_config_var("Py_ENABLE_SHARED") == 0
assert sysconfig.get_config_var("prefix") == sys.prefix
assert sysconfig.get_path("stdlib") == sysconfig.get_config_var("LIBDEST")
assert sysconfig.get_path("purelib") in sys.path
assert not any(entry.endswith("dist-packages") for entry in sys.path)

thread = threading.Thread(target=threading.get_ident)
thread.start()
thread.join()

_interpreters.destroy(_interpreters.create())

child = [sys.executable, "-c", "import sys; print(sys.executable)"]
assert subprocess.run(child, capture_output=True, text=True).stdout.strip() == sys.executable
