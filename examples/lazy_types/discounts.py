"""A table that takes a while to load."""

import gc
import time


def load():
    time.sleep(0.2)  # lets go of the interpreter, as reading a file does
    gc.collect()  # without a GIL: waits for all threads that are attached
    return {"ann": 10, "bob": 5}
