"""NCCL by ctypes alone, as vLLM's pynccl wrapper calls it: open, unique id by value, one process a GPU, calls on torch's streams, graphs.

`--cpu` gives host memory and no stream, which libcollectives' drop-in takes where there is no GPU; it needs no torch.
"""

import array
import contextlib
import ctypes
import os
import struct
import tempfile
import time

import ranks as base

PERIOD = 1009  # data repeats after this many elements, a prime that no chunk is a multiple of
SUM, PROD, MAX, MIN, AVG = range(5)
OPERATIONS = {"sum": SUM, "prod": PROD, "max": MAX, "min": MIN}
SUCCESS, INVALID_ARGUMENT, INVALID_USAGE = 0, 4, 5
SYMMETRIC = 1
TEXTS = [  # how NCCL's begin; some go on with what to set to learn more
    "no error", "unhandled cuda error", "unhandled system error", "internal error", "invalid argument", "invalid usage",
    "remote process exited or there was a network error", "NCCL operation in progress", "unknown result code",
]


class UniqueId(ctypes.Structure):
    _fields_ = [("internal", ctypes.c_byte * 128)]


place, integer, size_t, pointer_to = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.POINTER
FUNCTIONS = {
    "ncclGetVersion": [pointer_to(integer)],
    "ncclGetUniqueId": [pointer_to(UniqueId)],
    "ncclCommInitRank": [pointer_to(place), integer, UniqueId, integer],
    "ncclCommCount": [place, pointer_to(integer)],
    "ncclCommUserRank": [place, pointer_to(integer)],
    "ncclAllReduce": [place, place, size_t, integer, integer, place, place],
    "ncclReduce": [place, place, size_t, integer, integer, integer, place, place],
    "ncclAllGather": [place, place, size_t, integer, place, place],
    "ncclReduceScatter": [place, place, size_t, integer, integer, place, place],
    "ncclBroadcast": [place, place, size_t, integer, integer, place, place],
    "ncclSend": [place, size_t, integer, integer, place, place],
    "ncclRecv": [place, size_t, integer, integer, place, place],
    "ncclGroupStart": [],
    "ncclGroupEnd": [],
    "ncclCommWindowRegister": [place, place, size_t, pointer_to(place), integer],
    "ncclCommWindowDeregister": [place, place],
    "ncclMemAlloc": [pointer_to(place), size_t],
    "ncclMemFree": [place],
    "ncclCommGetAsyncError": [place, pointer_to(integer)],
    "ncclCommDestroy": [place],
    "ncclCommAbort": [place],
}


class Nccl:
    """The library's functions; one that fails raises."""

    def __init__(self, name):
        self.library = ctypes.CDLL(name)
        for function, arguments in FUNCTIONS.items():
            entry = getattr(self.library, function)
            entry.argtypes, entry.restype = arguments, integer
            setattr(self, function.removeprefix("nccl"), self._checked(function, entry))
        self.library.ncclGetErrorString.argtypes, self.library.ncclGetErrorString.restype = [integer], ctypes.c_char_p
        self.library.ncclGetLastError.argtypes, self.library.ncclGetLastError.restype = [place], ctypes.c_char_p

    def _checked(self, name, entry):
        def call(*arguments):
            result = entry(*arguments)
            if result != SUCCESS:
                raise RuntimeError(f"{name}: {result}, {self.text(result)}; {self.last_error()}")
        return call

    def text(self, result):
        return self.library.ncclGetErrorString(result).decode()

    def last_error(self):
        return (self.library.ncclGetLastError(None) or b"").decode()

    @contextlib.contextmanager
    def group(self):
        self.GroupStart()
        yield
        self.GroupEnd()


class Type:
    """An element type: its number, its width, how Python integers become its bytes."""

    def __init__(self, number, width, code):
        self.number, self.width, self.code = number, width, code

    def pack(self, numbers):
        if self.code == "bfloat16":  # the upper half of a float; small integers lose nothing
            return b"".join(struct.pack("<f", number)[2:] for number in numbers)
        return struct.pack(f"<{len(numbers)}{self.code}", *numbers)


TYPES = {
    "int8": Type(0, 1, "b"), "uint8": Type(1, 1, "B"), "int32": Type(2, 4, "i"), "uint32": Type(3, 4, "I"), "int64": Type(4, 8, "q"),
    "uint64": Type(5, 8, "Q"), "float16": Type(6, 2, "e"), "float32": Type(7, 4, "f"), "float64": Type(8, 8, "d"), "bfloat16": Type(9, 2, "bfloat16"),
}


class HostBuffer:
    """Memory of a CPU rank."""

    def __init__(self, size):
        self.size, self.memory = size, ctypes.create_string_buffer(max(size, 1) + 64)
        self.pointer = (ctypes.addressof(self.memory) + 63) // 64 * 64

    def write(self, data):
        ctypes.memmove(self.pointer, data, len(data))

    def read(self):
        return ctypes.string_at(self.pointer, self.size)


class GpuBuffer:
    """Memory of a GPU: a tensor, or a place that something else allocated."""

    def __init__(self, size, pointer=0):
        self.size = size
        if pointer:
            self.__cuda_array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (pointer, False), "version": 2}
            self.tensor = torch.as_tensor(self, device="cuda")
        else:
            self.tensor = torch.zeros(max(size, 1), dtype=torch.uint8, device="cuda")
        self.pointer = self.tensor.data_ptr()

    def write(self, data):
        if data:
            self.tensor[: len(data)].copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))

    def read(self):
        return bytes(self.tensor[: self.size].cpu().numpy().tobytes())


def tiled(kind, period, count):
    whole = kind.pack(period)
    return (whole * (count // PERIOD + 1))[: count * kind.width]


def drawn(call, rank, span):
    """Integers from 0 to span - 1, PERIOD of them, that differ by call, rank and element."""
    numbers, state = array.array("q"), call * 7919 + rank * 104729 + 12345
    for _ in range(PERIOD):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        numbers.append((state >> 12) % span)
    return numbers


class Here:
    """A rank, its library, its communicator."""

    def __init__(self, rank):
        self.rank, self.me, self.n, self.cpu = rank, rank.rank, rank.ranks, rank.options.cpu
        self.nccl = Nccl(rank.options.library)
        if not self.cpu:
            torch.cuda.set_device(self.me)
            torch.zeros(1, device="cuda")

    def buffer(self, data_or_size):
        size = data_or_size if isinstance(data_or_size, int) else len(data_or_size)
        buffer = HostBuffer(size) if self.cpu else GpuBuffer(size)
        if size:
            buffer.write(data_or_size if size and not isinstance(data_or_size, int) else b"\xa5" * size)
        return buffer

    def stream(self):
        return None if self.cpu else torch.cuda.current_stream().cuda_stream

    def synchronize(self):
        if not self.cpu:
            torch.cuda.current_stream().synchronize()

    def given(self, call, rank=None, span=8):
        return drawn(call, self.me if rank is None else rank, span)

    def reduced(self, call, op, ranks=None, span=8):
        columns = zip(*(self.given(call, rank, span) for rank in (ranks or range(self.n))))
        return [{SUM: sum, MAX: max, MIN: min, PROD: product}[op](column) for column in columns]

    def equal(self, buffer, expected, what):
        found = buffer.read()
        self.rank.check(found == expected, lambda: f"{what}: {difference(found, expected)}")

    def refused(self, result, expected, what):
        self.rank.check(result == expected, f"{what}: found {result}, expected {expected}")

    def meet(self, name, members=None):
        """A communicator of `members`, of all ranks by default. The first of them makes the id, the others find it in a file."""
        members = list(range(self.n)) if members is None else members
        made, file = UniqueId(), os.path.join(self.rank.shared["folder"], name)
        if self.me == members[0]:
            self.nccl.GetUniqueId(ctypes.byref(made))
            with open(file + ".new", "wb") as out:
                out.write(bytes(made))
            os.rename(file + ".new", file)
        else:
            while not os.path.exists(file):
                time.sleep(0.001)
            with open(file, "rb") as came:
                made = UniqueId.from_buffer_copy(came.read())
        comm = place()
        self.nccl.CommInitRank(ctypes.byref(comm), len(members), made, members.index(self.me))
        return comm


def product(numbers):
    result = 1
    for number in numbers:
        result *= number
    return result


def difference(found, expected):
    if len(found) != len(expected):
        return f"{len(found)} bytes, expected {len(expected)}"
    wrong = [i for i in range(len(found)) if found[i] != expected[i]]
    return f"byte {wrong[0]} of {len(found)} is {found[wrong[0]]:#x}, expected {expected[wrong[0]]:#x}; {len(wrong)} differ"


def the_library(here, comm):
    version, value = ctypes.c_int(), ctypes.c_int(-1)
    here.nccl.GetVersion(ctypes.byref(version))
    here.rank.check(20000 <= version.value < 100000, f"version {version.value}: expected five digits")
    if here.me == 0:
        here.rank.result("library", base.nccl_libraries())
        here.rank.line(f"NCCL {version.value}, {here.n} ranks on {'CPUs' if here.cpu else 'GPUs'}: {' '.join(base.nccl_libraries())}")
    here.nccl.CommCount(comm, ctypes.byref(value))
    here.rank.check(value.value == here.n, f"{value.value} ranks, expected {here.n}")
    here.nccl.CommUserRank(comm, ctypes.byref(value))
    here.rank.check(value.value == here.me, f"rank {value.value}, expected {here.me}")
    if 22000 < version.value < 22900:
        for code, text in enumerate(TEXTS):
            here.rank.check(here.nccl.text(code).startswith(text), f"error {code} is called {here.nccl.text(code)!r}, expected {text!r}")
    # The first call of vLLM's wrapper: one element.
    one = here.buffer(struct.pack("<f", here.me + 1))
    here.nccl.AllReduce(one.pointer, one.pointer, 1, 7, SUM, comm, here.stream())
    here.synchronize()
    here.equal(one, struct.pack("<f", here.n * (here.n + 1) // 2), "the first call")


def all_reduce(here, comm):
    for name, kind in TYPES.items():
        for op_name, op in OPERATIONS.items():
            for count in (1, 7, 1000, 65537) if kind.code in "fi" or kind.width == 2 else (1000,):
                call = here.rank.next_call()
                span = 3 if op == PROD else 8  # products to 2^4, sums to 7 x 16
                mine = here.buffer(tiled(kind, here.given(call, span=span), count))
                out = here.buffer(count * kind.width)
                here.nccl.AllReduce(mine.pointer, out.pointer, count, kind.number, op, comm, here.stream())
                here.synchronize()
                here.equal(out, tiled(kind, here.reduced(call, op, span=span), count), f"{name} {op_name} of {count}")
    kind = TYPES["bfloat16"]
    for count in (4 << 20, (4 << 20) + 5):
        call = here.rank.next_call()
        mine = here.buffer(tiled(kind, here.given(call), count))
        here.nccl.AllReduce(mine.pointer, mine.pointer, count, kind.number, SUM, comm, here.stream())
        here.synchronize()
        here.equal(mine, tiled(kind, here.reduced(call, SUM), count), f"in place, bfloat16 sum of {count}")
    before = here.buffer(b"unchanged")
    here.nccl.AllReduce(before.pointer, before.pointer, 0, 7, SUM, comm, here.stream())
    here.synchronize()
    here.equal(before, b"unchanged", "of nothing")


def gather_and_scatter(here, comm):
    for name in ("bfloat16", "float32", "int64"):
        kind = TYPES[name]
        for count in (1, 1000, 65537):
            call = here.rank.next_call()
            mine = here.buffer(tiled(kind, here.given(call), count))
            whole = here.buffer(count * kind.width * here.n)
            here.nccl.AllGather(mine.pointer, whole.pointer, count, kind.number, comm, here.stream())
            here.synchronize()
            here.equal(whole, b"".join(tiled(kind, here.given(call, rank), count) for rank in range(here.n)), f"all_gather {name} of {count}")
            call = here.rank.next_call()
            whole = here.buffer(tiled(kind, here.given(call), count * here.n))
            block = here.buffer(count * kind.width)
            here.nccl.ReduceScatter(whole.pointer, block.pointer, count, kind.number, SUM, comm, here.stream())
            here.synchronize()
            expected = tiled(kind, here.reduced(call, SUM), count * here.n)
            here.equal(block, expected[here.me * len(expected) // here.n : (here.me + 1) * len(expected) // here.n], f"reduce_scatter {name} of {count}")
    # fp8 e4m3 is only moved: any bytes.
    call = here.rank.next_call()
    mine, whole = here.buffer(tiled(TYPES["uint8"], here.given(call, span=256), 5000)), here.buffer(5000 * here.n)
    here.nccl.AllGather(mine.pointer, whole.pointer, 5000, 10, comm, here.stream())
    here.synchronize()
    here.equal(whole, b"".join(tiled(TYPES["uint8"], here.given(call, rank, 256), 5000) for rank in range(here.n)), "all_gather fp8 of 5000")


def roots(here, comm):
    kind = TYPES["float32"]
    for root in range(here.n):
        for count in (1, 1000, 65537):
            call = here.rank.next_call()
            mine = here.buffer(tiled(kind, here.given(call), count))
            out = here.buffer(count * kind.width)
            here.nccl.Broadcast(mine.pointer, out.pointer, count, kind.number, root, comm, here.stream())
            here.synchronize()
            here.equal(out, tiled(kind, here.given(call, root), count), f"broadcast of {count} from {root}")
            call = here.rank.next_call()
            mine = here.buffer(tiled(kind, here.given(call), count))
            here.nccl.Reduce(mine.pointer, out.pointer, count, kind.number, SUM, root, comm, here.stream())
            here.synchronize()
            if here.me == root:
                here.equal(out, tiled(kind, here.reduced(call, SUM), count), f"reduce of {count} to {root}")


def grouped(here, comm):
    kind, nccl = TYPES["bfloat16"], here.nccl
    # Blocks of unequal size, gathered by a broadcast from each rank and scattered by a reduce to each, in one group.
    counts = [1000 + 37 * rank for rank in range(here.n)]
    starts = [sum(counts[:rank]) * kind.width for rank in range(here.n)]
    call = here.rank.next_call()
    mine, whole = here.buffer(tiled(kind, here.given(call), counts[here.me])), here.buffer(sum(counts) * kind.width)
    with nccl.group():
        for root in range(here.n):
            nccl.Broadcast(mine.pointer, whole.pointer + starts[root], counts[root], kind.number, root, comm, here.stream())
    here.synchronize()
    here.equal(whole, b"".join(tiled(kind, here.given(call, rank), counts[rank]) for rank in range(here.n)), "broadcasts from all")
    call = here.rank.next_call()
    whole, block = here.buffer(tiled(kind, here.given(call), sum(counts))), here.buffer(counts[here.me] * kind.width)
    with nccl.group():
        for root in range(here.n):
            nccl.Reduce(whole.pointer + starts[root], block.pointer, counts[root], kind.number, SUM, root, comm, here.stream())
    here.synchronize()
    expected = tiled(kind, here.reduced(call, SUM), sum(counts))
    here.equal(block, expected[starts[here.me] : starts[here.me] + counts[here.me] * kind.width], "reduces to all")
    for count in (1, 1000, 65537):
        call, left, right = here.rank.next_call(), (here.me - 1) % here.n, (here.me + 1) % here.n
        mine, out = here.buffer(tiled(kind, here.given(call), count)), here.buffer(count * kind.width)
        with nccl.group():
            nccl.Send(mine.pointer, count, kind.number, right, comm, here.stream())
            nccl.Recv(out.pointer, count, kind.number, left, comm, here.stream())
        here.synchronize()
        here.equal(out, tiled(kind, here.given(call, left), count), f"a ring of messages of {count}")
        call = here.rank.next_call()
        mine = [here.buffer(tiled(kind, here.given(call * 100 + peer), count)) for peer in range(here.n)]
        outs = [here.buffer(count * kind.width) for _ in range(here.n)]
        with nccl.group():
            for peer in range(here.n):
                nccl.Send(mine[peer].pointer, count, kind.number, peer, comm, here.stream())
                nccl.Recv(outs[peer].pointer, count, kind.number, peer, comm, here.stream())
        here.synchronize()
        for peer in range(here.n):
            here.equal(outs[peer], tiled(kind, here.given(call * 100 + here.me, peer), count), f"from all to all, {count} of {peer}")
    # Outside a group, as pipelines send: each rank to the next, the first one begins.
    call = here.rank.next_call()
    token = here.buffer(tiled(kind, here.given(call, 0), 4096)) if here.me == 0 else here.buffer(4096 * kind.width)
    if here.me > 0:
        nccl.Recv(token.pointer, 4096, kind.number, here.me - 1, comm, here.stream())
    if here.me < here.n - 1:
        nccl.Send(token.pointer, 4096, kind.number, here.me + 1, comm, here.stream())
    here.synchronize()
    here.equal(token, tiled(kind, here.given(call, 0), 4096), "handed from rank to rank")
    # Several all-reduces in one group.
    call = here.rank.next_call()
    several = [here.buffer(tiled(kind, here.given(call * 100 + i), 100 + 1000 * i)) for i in range(5)]
    with nccl.group():
        for each in several:
            nccl.AllReduce(each.pointer, each.pointer, each.size // kind.width, kind.number, SUM, comm, here.stream())
    here.synchronize()
    for i, each in enumerate(several):
        here.equal(each, tiled(kind, here.reduced(call * 100 + i, SUM), 100 + 1000 * i), f"all_reduce {i} of a group")


def windows(here, comm):
    """Memory from the library's allocator, registered as vLLM's pool registers it."""
    kind, size = TYPES["bfloat16"], 1 << 20
    memory, window = place(), place()
    here.nccl.MemAlloc(ctypes.byref(memory), size)
    here.nccl.CommWindowRegister(comm, memory, size, ctypes.byref(window), SYMMETRIC)
    if here.cpu:
        buffer = here.buffer(size)
        buffer.pointer = memory.value
    else:
        buffer = GpuBuffer(size, memory.value)
    for count in (1000, size // kind.width):
        call = here.rank.next_call()
        buffer.write(tiled(kind, here.given(call), count))
        here.nccl.AllReduce(memory, memory, count, kind.number, SUM, comm, here.stream())
        here.synchronize()
        expected = tiled(kind, here.reduced(call, SUM), count)
        found = buffer.read()[: len(expected)]
        here.rank.check(found == expected, lambda: f"all_reduce of {count} in a window: {difference(found, expected)}")
    if window.value:
        here.nccl.CommWindowDeregister(comm, window)
    del buffer
    here.nccl.MemFree(memory)


def mistakes(here, comm):
    """Refused with NCCL's codes, and the communicator works afterwards."""
    library, x = here.nccl.library, here.buffer(tiled(TYPES["float32"], here.given(here.rank.next_call()), 1000))
    x_at, stream = x.pointer, here.stream()
    here.refused(library.ncclAllReduce(x_at, x_at, 1, 99, SUM, comm, stream), INVALID_ARGUMENT, "an unknown type")
    here.refused(library.ncclAllReduce(x_at, x_at, 1, 7, 77, comm, stream), INVALID_ARGUMENT, "an unknown operation")
    here.refused(library.ncclBroadcast(x_at, x_at, 1, 7, here.n, comm, stream), INVALID_ARGUMENT, "a root out of range")
    here.refused(library.ncclAllReduce(x_at, x_at, 1, 7, SUM, None, stream), INVALID_ARGUMENT, "no communicator")
    here.refused(library.ncclGetUniqueId(None), INVALID_ARGUMENT, "no place for the id")
    here.refused(library.ncclGroupEnd(), INVALID_USAGE, "the end of no group")
    state = ctypes.c_int(-1)
    here.nccl.CommGetAsyncError(comm, ctypes.byref(state))
    here.rank.check(state.value == SUCCESS, f"the communicator's state is {state.value} ({here.nccl.text(state.value)})")
    call = here.rank.next_call()
    x.write(tiled(TYPES["float32"], here.given(call), 1000))
    here.nccl.AllReduce(x_at, x_at, 1000, 7, SUM, comm, stream)
    here.synchronize()
    here.equal(x, tiled(TYPES["float32"], here.reduced(call, SUM), 1000), "an all_reduce after the mistakes")


def captured(here, comm):
    """Calls on the stream that torch captures, replayed on inputs that change."""
    kind, n = TYPES["bfloat16"], here.n
    for count in (8, 4096, 262144):
        x, summed = here.buffer(count * 2), here.buffer(count * 2)
        whole, block = here.buffer(count * 2 * n), here.buffer(count * 2)

        def step():
            here.nccl.AllReduce(x.pointer, summed.pointer, count, kind.number, SUM, comm, here.stream())
            here.nccl.AllGather(summed.pointer, whole.pointer, count, kind.number, comm, here.stream())
            here.nccl.ReduceScatter(whole.pointer, block.pointer, count, kind.number, MAX, comm, here.stream())

        step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        for replay in range(10):
            call = here.rank.next_call()
            x.write(tiled(kind, here.given(call), count))
            graph.replay()
            here.synchronize()
            total = tiled(kind, here.reduced(call, SUM), count)
            here.equal(summed, total, f"all_reduce of {count}, replay {replay}")
            here.equal(whole, total * n, f"all_gather of {count}, replay {replay}")
            here.equal(block, total, f"reduce_scatter of {count}, replay {replay}")
        torch.cuda.synchronize()
        del graph


def more_communicators(here, comm):
    """One more of all ranks, one of all but the last, one made and destroyed again and again; the first works on."""
    kind = TYPES["float32"]
    for name, members in [("second", list(range(here.n))), ("few", list(range(here.n - 1)))] + [(f"turn {turn}", list(range(here.n))) for turn in range(4)]:
        call = here.rank.next_call()
        if here.me not in members:
            continue
        other = here.meet(name, members)
        x = here.buffer(tiled(kind, here.given(call), 5000))
        here.nccl.AllReduce(x.pointer, x.pointer, 5000, kind.number, SUM, other, here.stream())
        here.synchronize()
        here.equal(x, tiled(kind, here.reduced(call, SUM, members), 5000), f"{name}, ranks {members}")
        here.nccl.CommDestroy(other)
    call = here.rank.next_call()
    x = here.buffer(tiled(kind, here.given(call), 5000))
    here.nccl.AllReduce(x.pointer, x.pointer, 5000, kind.number, SUM, comm, here.stream())
    here.synchronize()
    here.equal(x, tiled(kind, here.reduced(call, SUM), 5000), "the first one")


def work(rank):
    here = Here(rank)
    rank.ready()
    comm = here.meet("first")
    groups = [the_library, all_reduce, gather_and_scatter, roots, grouped, windows, mistakes] + ([] if here.cpu else [captured]) + [more_communicators]
    for group in groups:
        with rank.group(group.__name__):
            group(here, comm)
    with rank.group("destroy"):
        here.nccl.CommDestroy(comm)
        rank.check(here.nccl.library.ncclCommDestroy(None) == SUCCESS, "ncclCommDestroy of nothing")


def count_gpus(options):
    if not torch_is_here:
        base.skip("no torch here; --cpu does without")
    gpus = torch.cuda.device_count()
    ranks = options.ranks or gpus
    if ranks < 2 or ranks > gpus:
        base.skip(f"{max(ranks, 2)} ranks want as many GPUs, and torch sees {gpus}")
    return ranks


def main():
    parser = base.parser(__doc__.splitlines()[0])
    parser.add_argument("--library", default="libnccl.so.2", help="path or name (default: %(default)s, which a preloaded library answers to)")
    parser.add_argument("--cpu", action="store_true", help="host memory, for libcollectives' drop-in where there is no GPU")
    options = parser.parse_args()
    if options.cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    ranks = (options.ranks or 2) if options.cpu else count_gpus(options)
    with tempfile.TemporaryDirectory() as folder:
        team = base.Team(work, ranks, options, {"folder": folder})
        team.wait()
    team.finish()


try:
    import torch

    torch_is_here = True
except ImportError:
    torch_is_here = False

if __name__ == "__main__":
    main()
