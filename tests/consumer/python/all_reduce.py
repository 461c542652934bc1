"""Two host ranks reduce through libcollectives.so, with nothing but ctypes. Usage: all_reduce.py LIBRARY"""

import ctypes
import sys


class Options(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("backend", ctypes.c_int),
        ("algorithm", ctypes.c_int),
        ("arity", ctypes.c_int),
        ("wire", ctypes.c_int),
        ("invariant", ctypes.c_int),
        ("max_blocks", ctypes.c_int),
        ("timeout_ms", ctypes.c_uint32),
        ("first_epoch", ctypes.c_uint32),
        ("pool_bytes", ctypes.c_size_t),
    ]


FLOAT32, SUM, HOST, INVALID_ARGUMENT = 0, 0, 2, 1

library = ctypes.CDLL(sys.argv[1])
library.coll_last_error.restype = ctypes.c_char_p
library.coll_options_init.argtypes = [ctypes.POINTER(Options), ctypes.c_size_t]
library.coll_comm_create_local.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(Options), ctypes.POINTER(ctypes.c_void_p)]
library.coll_all_reduce.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int] + [ctypes.c_void_p] * 2
library.coll_synchronize.argtypes = [ctypes.c_void_p] * 2
library.coll_comm_destroy.argtypes = [ctypes.c_void_p]


def check(error):
    if error:
        sys.exit(f"error {error}: {library.coll_last_error().decode()}")


options = Options()
check(library.coll_options_init(ctypes.byref(options), ctypes.sizeof(options)))
options.backend = HOST
comms = (ctypes.c_void_p * 2)()
check(library.coll_comm_create_local(None, 2, ctypes.byref(options), comms))
values = [(ctypes.c_float * 3)(1, 2, 3), (ctypes.c_float * 3)(10, 20, 30)]
for comm, mine in zip(comms, values):
    check(library.coll_all_reduce(mine, mine, 3, FLOAT32, SUM, comm, None))
for comm in comms:
    check(library.coll_synchronize(comm, None))
for mine in values:
    if list(mine) != [11, 22, 33]:
        sys.exit(f"wrong sum: {list(mine)}")
if library.coll_all_reduce(values[0], values[0], 3, 99, SUM, comms[0], None) != INVALID_ARGUMENT:
    sys.exit("an unknown type was taken")
for comm in comms:
    check(library.coll_comm_destroy(comm))
print("the Python consumer works")
