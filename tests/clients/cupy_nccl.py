"""CuPy's NCCL bindings: one process with a communicator for each GPU, then one process a GPU, every call that they have.

`--cpu` gives them host memory, which libcollectives' drop-in takes where there is no GPU and no driver; CuPy has to be installed all the same.
"""

import ast
import contextlib
import os
import tempfile
import time

import ranks as base

try:
    import numpy
    from cupy.cuda import nccl

    why_not = None if nccl.available else "this CuPy is built without NCCL"
except ImportError as missing:
    why_not = f"no CuPy with NCCL here ({missing})"

COUNTS = (1, 7, 1000, 65537, 1 << 20)


def types():
    return {
        "int8": nccl.NCCL_INT8, "uint8": nccl.NCCL_UINT8, "int32": nccl.NCCL_INT32, "uint32": nccl.NCCL_UINT32, "int64": nccl.NCCL_INT64,
        "uint64": nccl.NCCL_UINT64, "float16": nccl.NCCL_FLOAT16, "float32": nccl.NCCL_FLOAT32, "float64": nccl.NCCL_FLOAT64,
    }


def operations():
    return {"sum": (nccl.NCCL_SUM, numpy.add), "prod": (nccl.NCCL_PROD, numpy.multiply), "max": (nccl.NCCL_MAX, numpy.maximum), "min": (nccl.NCCL_MIN, numpy.minimum)}


def given(call, rank, count, dtype, span=8):
    """Integers from 0 to span - 1 that differ by call, rank and element."""
    mixed = (numpy.arange(count, dtype=numpy.uint64) * 2654435761 + (rank + 1) * 40503000017 + call * 69069000031) & 0x7FFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 2246822519) & 0x7FFFFFFF
    return ((mixed >> 7) % span).astype(dtype)


def reduced(function, inputs):
    return function.reduce(numpy.stack(inputs).astype("float64"), axis=0).astype(inputs[0].dtype)


class HostPlace:
    """A CPU rank: arrays of NumPy's, no stream."""

    stream = 0

    def on(self):
        return contextlib.nullcontext()

    def array(self, data):
        return data.copy()

    def pointer(self, data):
        return data.ctypes.data

    def read(self, data):
        return data

    def synchronize(self):
        pass


class GpuPlace:
    """A GPU: arrays of CuPy's and a stream."""

    def __init__(self, index):
        import cupy

        self.cupy, self.device = cupy, cupy.cuda.Device(index)
        with self.device:
            self.queue = cupy.cuda.Stream(non_blocking=True)
        self.stream = self.queue.ptr

    @contextlib.contextmanager
    def on(self):
        with self.device, self.queue:
            yield

    def array(self, data):
        with self.on():
            return self.cupy.asarray(data)

    def pointer(self, data):
        return data.data.ptr

    def read(self, data):
        with self.on():
            found = self.cupy.asnumpy(data)
            self.queue.synchronize()
        return found

    def synchronize(self):
        self.queue.synchronize()


class Here:
    """The ranks that a process drives: all of them, or its own."""

    def __init__(self, rank, total, mine):
        self.rank, self.n, self.mine = rank, total, mine
        cpu = rank.options.cpu
        self.places = {index: HostPlace() if cpu else GpuPlace(index) for index in mine}

    def together(self, comms, enqueue):
        """One call of each of this process's ranks, in a group if they are several."""
        if len(self.mine) > 1:
            nccl.groupStart()
        for index in self.mine:
            with self.places[index].on():
                enqueue(index, comms[index], self.places[index])
        if len(self.mine) > 1:
            nccl.groupEnd()
        for index in self.mine:
            self.places[index].synchronize()

    def put(self, data):
        """A function of the rank, on each rank's device."""
        return {index: self.places[index].array(data(index)) for index in self.mine}

    def equal(self, arrays, expected, what, only=None):
        for index in self.mine:
            if only is not None and index != only:
                continue
            found, wanted = self.places[index].read(arrays[index]), expected(index)
            self.rank.check(found.tobytes() == wanted.tobytes(), lambda: f"{what}, rank {index}: {difference(found, wanted)}")


def difference(found, expected):
    wrong = numpy.flatnonzero(found != expected)
    at = wrong[0] if wrong.size else 0
    return f"element {at} of {found.size} is {found[at]}, expected {expected[at]}; {wrong.size} differ"


def all_reduce(here, comms):
    for name, number in types().items():
        for op_name, (op, function) in operations().items():
            for count in COUNTS if name in ("float16", "float32") and op_name == "sum" else (1000,):
                call, span = here.rank.next_call(), 3 if op_name == "prod" else 8
                inputs = [given(call, rank, count, name, span) for rank in range(here.n)]
                x, out = here.put(lambda rank: inputs[rank]), here.put(lambda rank: numpy.zeros(count, name))
                here.together(comms, lambda rank, comm, at: comm.allReduce(at.pointer(x[rank]), at.pointer(out[rank]), count, number, op, at.stream))
                here.equal(out, lambda rank: reduced(function, inputs), f"{name} {op_name} of {count}")
    call = here.rank.next_call()
    inputs = [given(call, rank, 5000, "float32") for rank in range(here.n)]
    x = here.put(lambda rank: inputs[rank])
    here.together(comms, lambda rank, comm, at: comm.allReduce(at.pointer(x[rank]), at.pointer(x[rank]), 5000, nccl.NCCL_FLOAT32, nccl.NCCL_SUM, at.stream))
    here.equal(x, lambda rank: reduced(numpy.add, inputs), "in place")
    call = here.rank.next_call()
    inputs = [given(call, rank, 5000, "float32") * here.n for rank in range(here.n)]
    x = here.put(lambda rank: inputs[rank])
    here.together(comms, lambda rank, comm, at: comm.allReduce(at.pointer(x[rank]), at.pointer(x[rank]), 5000, nccl.NCCL_FLOAT32, nccl.NCCL_AVG, at.stream))
    if here.n & (here.n - 1) == 0:  # by a power of two it divides exactly, in whatever order
        here.equal(x, lambda rank: reduced(numpy.add, inputs) / numpy.float32(here.n), "avg")


def from_a_root(here, comms):
    for root in range(here.n):
        for count in COUNTS:
            call = here.rank.next_call()
            inputs = [given(call, rank, count, "float32") for rank in range(here.n)]
            x, out = here.put(lambda rank: inputs[rank]), here.put(lambda rank: numpy.zeros(count, "float32"))
            here.together(comms, lambda rank, comm, at: comm.broadcast(at.pointer(x[rank]), at.pointer(out[rank]), count, nccl.NCCL_FLOAT32, root, at.stream))
            here.equal(out, lambda rank: inputs[root], f"broadcast of {count} from {root}")
            here.together(comms, lambda rank, comm, at: comm.reduce(at.pointer(x[rank]), at.pointer(out[rank]), count, nccl.NCCL_FLOAT32, nccl.NCCL_SUM, root, at.stream))
            here.equal(out, lambda rank: reduced(numpy.add, inputs), f"reduce of {count} to {root}", only=root)
            here.together(comms, lambda rank, comm, at: comm.bcast(at.pointer(x[rank]), count, nccl.NCCL_FLOAT32, root, at.stream))
            here.equal(x, lambda rank: inputs[root], f"bcast of {count} from {root}")


def gather_and_scatter(here, comms):
    for name in ("int32", "float16", "float64"):
        number = types()[name]
        for count in COUNTS:
            call = here.rank.next_call()
            inputs = [given(call, rank, count, name) for rank in range(here.n)]
            x, whole = here.put(lambda rank: inputs[rank]), here.put(lambda rank: numpy.zeros(count * here.n, name))
            here.together(comms, lambda rank, comm, at: comm.allGather(at.pointer(x[rank]), at.pointer(whole[rank]), count, number, at.stream))
            here.equal(whole, lambda rank: numpy.concatenate(inputs), f"allGather {name} of {count}")
            call = here.rank.next_call()
            wholes = [given(call, rank, count * here.n, name) for rank in range(here.n)]
            x, block = here.put(lambda rank: wholes[rank]), here.put(lambda rank: numpy.zeros(count, name))
            here.together(comms, lambda rank, comm, at: comm.reduceScatter(at.pointer(x[rank]), at.pointer(block[rank]), count, number, nccl.NCCL_SUM, at.stream))
            here.equal(block, lambda rank: reduced(numpy.add, wholes)[count * rank : count * (rank + 1)], f"reduceScatter {name} of {count}")


def messages(here, comms):
    for count in COUNTS:
        call = here.rank.next_call()
        inputs = [given(call, rank, count, "float32") for rank in range(here.n)]
        x, out = here.put(lambda rank: inputs[rank]), here.put(lambda rank: numpy.zeros(count, "float32"))

        def ring(rank, comm, at):
            nccl.groupStart()
            comm.send(at.pointer(x[rank]), count, nccl.NCCL_FLOAT32, (rank + 1) % here.n, at.stream)
            comm.recv(at.pointer(out[rank]), count, nccl.NCCL_FLOAT32, (rank - 1) % here.n, at.stream)
            nccl.groupEnd()

        here.together(comms, ring)
        here.equal(out, lambda rank: inputs[(rank - 1) % here.n], f"ring of {count}")
        call = here.rank.next_call()
        wholes = [given(call, rank, count * here.n, "float32") for rank in range(here.n)]
        x, out = here.put(lambda rank: wholes[rank]), here.put(lambda rank: numpy.zeros(count * here.n, "float32"))

        def mesh(rank, comm, at):
            nccl.groupStart()
            for peer in range(here.n):
                comm.send(at.pointer(x[rank]) + 4 * count * peer, count, nccl.NCCL_FLOAT32, peer, at.stream)
                comm.recv(at.pointer(out[rank]) + 4 * count * peer, count, nccl.NCCL_FLOAT32, peer, at.stream)
            nccl.groupEnd()

        here.together(comms, mesh)
        here.equal(out, lambda rank: numpy.concatenate([whole.reshape(here.n, count)[rank] for whole in wholes]), f"mesh of {count}")


def facts(here, comms):
    for index in here.mine:
        comm = comms[index]
        here.rank.check(comm.size() == here.n and comm.rank_id() == index, f"rank {comm.rank_id()} of {comm.size()}, expected {index} of {here.n}")
        if not here.rank.options.cpu:
            here.rank.check(comm.device_id() == index, f"device {comm.device_id()}, expected {index}")
        comm.check_async_error()


CALLS = [facts, all_reduce, from_a_root, gather_and_scatter, messages]


def one_process(rank):
    """One thread drives all GPUs."""
    with rank.group("initAll"):
        here = Here(rank, rank.options.ranks, list(range(rank.options.ranks)))
        comms = dict(enumerate(nccl.NcclCommunicator.initAll(rank.options.ranks)))
        rank.check(len(comms) == here.n, f"{len(comms)} communicators, expected {here.n}")
    for calls in CALLS:
        with rank.group(f"one process: {calls.__name__}"):
            calls(here, comms)
    with rank.group("one process: destroy"):
        for comm in comms.values():
            comm.destroy()


def work_of_one(rank):
    rank.ready()
    if not rank.options.cpu:
        rank.line(f"CuPy's NCCL {nccl.get_version()}, {rank.options.ranks} GPUs: {' '.join(base.nccl_libraries())}")
    rank.result("library", base.nccl_libraries())
    one_process(rank)


def meet(rank, name, total, index):
    file = os.path.join(rank.shared["folder"], name)
    if index == 0:
        with open(file + ".new", "wb") as out:
            out.write(repr(nccl.get_unique_id()).encode())
        os.rename(file + ".new", file)
    while not os.path.exists(file):
        time.sleep(0.001)
    with open(file) as came:
        return nccl.NcclCommunicator(total, ast.literal_eval(came.read()), index)


def work_of_many(rank):
    here = Here(rank, rank.ranks, [rank.rank])
    rank.ready()
    with here.places[rank.rank].on():
        comms = {rank.rank: meet(rank, "first", rank.ranks, rank.rank)}
        for calls in CALLS:
            with rank.group(f"many processes: {calls.__name__}"):
                calls(here, comms)
        with rank.group("many processes: commSplit"):
            # Those of even rank and those of odd rank, in reverse order.
            half = [index for index in range(rank.ranks) if index % 2 == rank.rank % 2][::-1]
            split = comms[rank.rank].commSplit(rank.rank % 2, rank.ranks - rank.rank)
            rank.check(split.size() == len(half) and split.rank_id() == half.index(rank.rank), f"rank {split.rank_id()} of {split.size()}, expected {half.index(rank.rank)} of {len(half)}")
            call, at = rank.next_call(), here.places[rank.rank]
            x = at.array(given(call, rank.rank, 3000, "float32"))
            split.allReduce(at.pointer(x), at.pointer(x), 3000, nccl.NCCL_FLOAT32, nccl.NCCL_SUM, at.stream)
            at.synchronize()
            expected = reduced(numpy.add, [given(call, index, 3000, "float32") for index in half])
            rank.check(at.read(x).tobytes() == expected.tobytes(), f"all_reduce of ranks {half}: {difference(at.read(x), expected)}")
            split.destroy()
        with rank.group("many processes: errors"):
            at = here.places[rank.rank]
            x = at.array(numpy.zeros(10, "float32"))
            try:
                comms[rank.rank].allReduce(at.pointer(x), at.pointer(x), 10, 99, nccl.NCCL_SUM, at.stream)
                rank.check(False, "an unknown type was taken")
            except nccl.NcclError as error:
                rank.check(error.status == 4, f"an unknown type: {error}")
        with rank.group("many processes: destroy"):
            comms[rank.rank].destroy()


def choose_ranks(options):
    if options.cpu:
        return options.ranks or 2
    import cupy

    try:
        gpus = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        base.skip(f"no GPU that CuPy can use ({error})")
    ranks = options.ranks or gpus
    if ranks < 2 or ranks > gpus:
        base.skip(f"{max(ranks, 2)} ranks want as many GPUs, and CuPy sees {gpus}")
    return ranks


def main():
    parser = base.parser(__doc__.splitlines()[0])
    parser.add_argument("--cpu", action="store_true", help="host memory, for libcollectives' drop-in where there is no GPU")
    options = parser.parse_args()
    if why_not:
        base.skip(why_not)
    options.ranks = choose_ranks(options)
    one = base.Team(work_of_one, 1, options)
    one.wait()
    with tempfile.TemporaryDirectory() as folder:
        many = base.Team(work_of_many, options.ranks, options, {"folder": folder})
        many.wait()
    many.checks, many.wrong = many.checks + one.checks, many.wrong + one.wrong
    many.results.update(one.results)
    many.finish()


if __name__ == "__main__":
    main()
