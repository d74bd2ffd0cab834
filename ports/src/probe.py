"""A probe: in this process nobody has used the extension yet, and eight threads do at once.

The arguments are the folder with the module, the code that defines `first`, and after how many seconds the process says where its
threads are: just before it is killed.
"""

import faulthandler
import gc
import sys
import threading
import time

THREADS = 8

folder, code, limit = sys.argv[1:]
faulthandler.dump_traceback_later(float(limit))
sys.path.insert(0, folder)
namespace = {}
exec(code, namespace)
first = namespace["first"]

# Where there is a GIL, let threads take turns often.
sys.setswitchinterval(1e-5)


class SlowDisk:
    """Imports take their time, in which others come by."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        time.sleep(0.003)


sys.meta_path.insert(0, SlowDisk)

start = threading.Barrier(THREADS)
done = threading.Event()
errors = []


def use():
    start.wait()
    try:
        first()
    except BaseException as error:  # A panic is none of Python's own exceptions.
        errors.append(f"{type(error).__name__}: {error}")


def collect():
    """Where there is no GIL, this is what needs every thread to be detached or to come by now and then."""
    while not done.wait(0.001):
        gc.collect()


collector = threading.Thread(target=collect)
collector.start()
threads = [threading.Thread(target=use) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
done.set()
collector.join()
faulthandler.cancel_dump_traceback_later()
if errors:
    sys.exit(f"{len(errors)} of {THREADS} threads: {errors[0]}")
