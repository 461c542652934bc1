"""Two processes reduce through libnccl.so.2 by ctypes, as vLLM's wrapper calls it. Usage: nccl.py [LIBRARY]; without one, what the
program has preloaded. Works where there is no GPU: "device" pointers are host memory then."""

import ctypes
import os
import sys


class UniqueId(ctypes.Structure):
    _fields_ = [("internal", ctypes.c_byte * 128)]


FLOAT32, BFLOAT16, SUM, INVALID_ARGUMENT = 7, 9, 0, 4

library = ctypes.CDLL(sys.argv[1] if len(sys.argv) > 1 else None)
library.ncclGetErrorString.restype = ctypes.c_char_p
library.ncclGetLastError.restype = ctypes.c_char_p
library.ncclGetLastError.argtypes = [ctypes.c_void_p]
library.ncclCommInitRank.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, UniqueId, ctypes.c_int]
library.ncclAllReduce.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
library.ncclAllGather.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
library.ncclSend.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
library.ncclRecv.argtypes = library.ncclSend.argtypes
library.ncclCommDestroy.argtypes = [ctypes.c_void_p]


def check(result):
    if result != 0:
        raise RuntimeError(f"{library.ncclGetErrorString(result).decode()}: {library.ncclGetLastError(None).decode()}")


def work(identity, rank):
    comm = ctypes.c_void_p()
    check(library.ncclCommInitRank(ctypes.byref(comm), 2, identity, rank))
    warm_up = (ctypes.c_float * 1)(1.0)
    check(library.ncclAllReduce(warm_up, warm_up, 1, FLOAT32, SUM, comm, None))
    assert warm_up[0] == 2.0
    count = 1000
    mine = (ctypes.c_float * count)(*[rank * 10 + i for i in range(count)])
    total = (ctypes.c_float * count)()
    check(library.ncclAllReduce(mine, total, count, FLOAT32, SUM, comm, None))
    assert all(total[i] == 10 + 2 * i for i in range(count))
    everyone = (ctypes.c_float * (2 * count))()
    check(library.ncclAllGather(mine, everyone, count, FLOAT32, comm, None))
    assert all(everyone[r * count + i] == r * 10 + i for r in range(2) for i in range(count))
    check(library.ncclGroupStart())
    check(library.ncclSend(mine, count, FLOAT32, 1 - rank, comm, None))
    check(library.ncclRecv(total, count, FLOAT32, 1 - rank, comm, None))
    check(library.ncclGroupEnd())
    assert all(total[i] == (1 - rank) * 10 + i for i in range(count))
    assert library.ncclAllReduce(mine, total, count, 99, SUM, comm, None) == INVALID_ARGUMENT
    check(library.ncclCommDestroy(comm))


version = ctypes.c_int()
check(library.ncclGetVersion(ctypes.byref(version)))
assert version.value == 22809
identity = UniqueId()
check(library.ncclGetUniqueId(ctypes.byref(identity)))
child = os.fork()
work(identity, 1 if child == 0 else 0)
if child != 0:
    assert os.waitpid(child, 0)[1] == 0
    print("two processes reduced through libnccl.so.2")
