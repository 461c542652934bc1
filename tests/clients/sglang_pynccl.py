"""SGLang's PyNcclCommunicator, its own files as they are, in every call that it has: eager and in CUDA graphs, on GPUs.

Loaded are `pynccl.py`, `pynccl_wrapper.py` and the process groups that they take; the rest of SGLang is not, so that its wheel,
unpacked, is enough. `--cpu` gives host memory and no stream, which libcollectives' drop-in takes where there is no GPU.
"""

import contextlib
import importlib

import engines
import torch_ranks as base
from torch_ranks import cast, dist, numbers, torch, values, wide

Op = dist.ReduceOp
INTEGERS = [torch.int8, torch.uint8, torch.int32, torch.int64]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
COUNTS = [1, 7, 1000, 65537]
ZERO_CTAS = 2  # SGLang's NCCL_CTA_POLICY_ZERO


class NoStream:
    """Where there is no GPU."""

    cuda_stream = 0

    def synchronize(self):
        pass


def load(cpu):
    """SGLang's own module, with the one function that it wants of SGLang's other files."""
    engines.open_packages("sglang", "sglang.srt", "sglang.srt.distributed", "sglang.srt.distributed.device_communicators", "sglang.srt.utils")
    engines.stand_in("sglang.srt.utils.common", get_current_device_stream_fast=NoStream if cpu else torch.cuda.current_stream)
    engines.stand_in("sglang.srt.runtime_context", get_resources=None)
    module = importlib.import_module("sglang.srt.distributed.device_communicators.pynccl")
    if cpu:
        nothing = lambda *_: contextlib.nullcontext()
        module.torch = engines.Instead(torch, cuda=engines.Instead(torch.cuda, device=nothing, stream=nothing, Stream=NoStream))
    return module


class Here:
    """A rank, SGLang's module, the group of all ranks and their communicator."""

    def __init__(self, rank):
        self.rank, self.place, self.cpu = rank, base.Place(rank), rank.options.cpu
        self.me, self.n, self.device = rank.rank, rank.ranks, self.place.device
        self.engine = load(self.cpu)
        dist.init_process_group("gloo", store=dist.PrefixStore("gloo", self.place.store), rank=self.me, world_size=self.n)

    def communicator(self, group=None, **options):
        return self.engine.PyNcclCommunicator(dist.group.WORLD if group is None else group, self.device, library_path=self.rank.options.library, **options)

    def call(self):
        return self.rank.next_call()

    def give(self, call, shape, dtype=torch.float32, rank=None):
        """What a rank gives to a call, this one by default."""
        count = shape if isinstance(shape, int) else shape[0] * shape[1]
        return values(call, self.me if rank is None else rank, count, dtype, self.device).reshape(shape)

    def all_give(self, call, shape, dtype=torch.float32, ranks=None):
        return [self.give(call, shape, dtype, rank) for rank in (range(self.n) if ranks is None else ranks)]

    def blank(self, shape, dtype=torch.float32):
        return cast(torch.full(shape if isinstance(shape, tuple) else (shape,), 1, device=self.device, dtype=torch.int64), dtype)

    def equal(self, found, expected, what):
        self.place.synchronize()
        base.equal(self.rank, found, expected, what)


def short(dtype):
    return str(dtype).removeprefix("torch.")


def joined(op, inputs):
    """What the ranks' inputs reduce to: exact, then of their type."""
    stacked = torch.stack([wide(x) for x in inputs])
    whole = {Op.SUM: stacked.sum, Op.PRODUCT: stacked.prod, Op.MAX: stacked.amax, Op.MIN: stacked.amin}[op](0)
    return cast(whole, inputs[0].dtype)


def small(call, rank, count, dtype, device):
    """Ones and twos, whose products are exact."""
    return cast(numbers(call, rank, count, device) % 2 + 1, dtype)


def the_library(here, comm):
    version = comm.nccl_version
    here.rank.check(20000 <= version < 100000, f"version {version}: expected five digits")
    if here.me == 0:
        library, where = base.base.nccl_libraries(), "CPUs" if here.cpu else "GPUs"
        here.rank.result("library", library)
        here.rank.line(f"SGLang's wrapper, torch {torch.__version__}, {here.n} ranks on {where}, NCCL {comm.nccl.ncclGetVersion()}: {' '.join(library)}")


def off_and_on(here, comm):
    """It does nothing until it is asked to, and afterwards."""
    call = here.call()
    mine, inputs = here.give(call, 1000), here.all_give(call, 1000)
    x = mine.clone()
    here.rank.check(comm.available and comm.disabled, f"available {comm.available}, disabled {comm.disabled}")
    comm.all_reduce(x)
    here.equal(x, mine, "an all_reduce that is off")
    here.rank.check(comm.outplace_all_reduce(x) is None, "an all_reduce out of place that is off gave something")
    with comm.change_state(enable=True):
        with comm.change_state(enable=False):
            comm.all_reduce(x)
        here.equal(x, mine, "an all_reduce that is off within one that is on")
        comm.all_reduce(x)
    here.equal(x, joined(Op.SUM, inputs), "an all_reduce that is on")
    here.rank.check(comm.disabled, "it stays on")


def all_reduce(here, comm):
    for dtype in INTEGERS + FLOATS:
        for op in (Op.SUM, Op.PRODUCT, Op.MAX, Op.MIN):
            for count in COUNTS if op == Op.SUM else COUNTS[2:]:
                call = here.call()
                inputs = [small(call, rank, count, dtype, here.device) for rank in range(here.n)] if op == Op.PRODUCT else here.all_give(call, count, dtype)
                x = inputs[here.me].clone()
                comm.all_reduce(x, op)
                here.equal(x, joined(op, inputs), f"{short(dtype)} {op} of {count}")
                out = comm.outplace_all_reduce(inputs[here.me], op=op)
                here.equal(out, joined(op, inputs), f"out of place, {short(dtype)} {op} of {count}")
    if here.n & (here.n - 1) == 0:  # by a power of two it divides exactly, in whatever order
        for dtype in FLOATS:
            call = here.call()
            inputs = [cast(numbers(call, rank, 1000, here.device) % 4 * here.n, dtype) for rank in range(here.n)]
            x = inputs[here.me].clone()
            comm.all_reduce(x, Op.AVG)
            here.equal(x, cast(wide(joined(Op.SUM, inputs)) / here.n, dtype), f"{short(dtype)} average")
    for count in (4 << 20, (4 << 20) + 5) if not here.cpu else ((1 << 20) + 5,):
        call = here.call()
        inputs = here.all_give(call, count, torch.bfloat16)
        out = here.blank(count, torch.bfloat16)
        comm.outplace_all_reduce(inputs[here.me], out)
        here.equal(out, joined(Op.SUM, inputs), f"bfloat16 of {count}")


def gather_and_scatter(here, comm):
    for dtype in (torch.bfloat16, torch.float32, torch.int64, torch.uint8):
        for count in COUNTS:
            call = here.call()
            whole = here.blank(count * here.n, dtype)
            comm.all_gather(whole, here.give(call, count, dtype))
            here.equal(whole, torch.cat(here.all_give(call, count, dtype)), f"all_gather {short(dtype)} of {count}")
            call = here.call()
            wholes, block = here.all_give(call, count * here.n, dtype), here.blank(count, dtype)
            comm.reduce_scatter(block, wholes[here.me])
            here.equal(block, joined(Op.SUM, wholes)[count * here.me : count * (here.me + 1)], f"reduce_scatter {short(dtype)} of {count}")


def uneven(here, comm):
    """Rows of each rank's own number: broadcasts and reduces in a group. A rank may have none."""
    for dtype in (torch.bfloat16, torch.float32):
        for sizes in ([5 + 37 * rank for rank in range(here.n)], [0 if rank == 1 else 3 for rank in range(here.n)]):
            columns, call = 129, here.call()
            blocks = [here.give(call, (size, columns), dtype, rank) for rank, size in enumerate(sizes)]
            whole = here.blank((sum(sizes), columns), dtype)
            comm.all_gather(whole, blocks[here.me], sizes=sizes)
            here.equal(whole, torch.cat(blocks), f"all_gather {short(dtype)} of rows {sizes}")
            call = here.call()
            wholes, block = here.all_give(call, (sum(sizes), columns), dtype), here.blank((sizes[here.me], columns), dtype)
            comm.reduce_scatter(block, wholes[here.me], sizes=sizes)
            begin = sum(sizes[: here.me])
            here.equal(block, joined(Op.SUM, wholes)[begin : begin + sizes[here.me]], f"reduce_scatter {short(dtype)} of rows {sizes}")
    # Several tensors at once, as SGLang gathers keys and values.
    call, sizes = here.call(), [2 + rank for rank in range(here.n)]
    several = [[here.give(call * 100 + i, (size, 64 + i), torch.bfloat16, rank) for rank, size in enumerate(sizes)] for i in range(3)]
    outs = [here.blank((sum(sizes), 64 + i), torch.bfloat16) for i in range(3)]
    comm.group_start()
    for blocks, out in zip(several, outs):
        comm.all_gather(out, blocks[here.me], sizes=sizes)
    comm.group_end()
    for i, (blocks, out) in enumerate(zip(several, outs)):
        here.equal(out, torch.cat(blocks), f"all_gather {i} of three in a group")


def broadcast(here, comm):
    for dtype in (torch.bfloat16, torch.int64):
        for root in range(here.n):
            for count in COUNTS:
                call = here.call()
                x = here.give(call, count, dtype)
                comm.broadcast(x, root)
                here.equal(x, here.give(call, count, dtype, root), f"{short(dtype)} of {count} from {root}")


def messages(here, comm):
    left, right = (here.me - 1) % here.n, (here.me + 1) % here.n
    for dtype in (torch.bfloat16, torch.float32):
        for count in COUNTS:
            call, x = here.call(), here.blank(count, dtype)
            mine = here.give(call, count, dtype)
            comm.group_start()
            comm.send(mine, right)
            comm.recv(x, left)
            comm.group_end()
            here.equal(x, here.give(call, count, dtype, left), f"around, {short(dtype)} of {count}")
            call = here.call()
            inputs, out = here.all_give(call, count * here.n, dtype), here.blank(count * here.n, dtype)
            comm.all_to_all_single(out, inputs[here.me])
            expected = torch.cat([x.reshape(here.n, count)[here.me] for x in inputs])
            here.equal(out, expected, f"all_to_all_single {short(dtype)} of {count}")
            # From rank to rank without a group, as pipelines do.
            call = here.call()
            x = here.give(call, count, dtype, 0) if here.me == 0 else here.blank(count, dtype)
            if here.me > 0:
                comm.recv(x, here.me - 1)
            if here.me < here.n - 1:
                comm.send(x, here.me + 1)
            here.equal(x, here.give(call, count, dtype, 0), f"handed on, {short(dtype)} of {count}")


def grouped(here, comm):
    call = here.call()
    several = [here.give(call * 100 + i, 100 + 1000 * i, torch.bfloat16) for i in range(5)]
    comm.group_start()
    for x in several:
        comm.all_reduce(x)
    comm.group_end()
    for i, x in enumerate(several):
        here.equal(x, joined(Op.SUM, here.all_give(call * 100 + i, 100 + 1000 * i, torch.bfloat16)), f"all_reduce {i} of a group")


def window(here, comm):
    """Memory of the library's own, registered and given back, as SGLang's pool of symmetric memory does."""
    size, dtype = 1 << 20, torch.bfloat16
    pointer = comm.nccl.ncclMemAlloc(size)
    handle = comm.register_comm_window_raw(pointer, size)
    memory = memory_at(pointer, size, here.device)
    for count in (1000, size // 2):
        call = here.call()
        x = memory[: 2 * count].view(dtype)
        x.copy_(here.give(call, count, dtype))
        comm.all_reduce(x)
        here.equal(x, joined(Op.SUM, here.all_give(call, count, dtype)), f"all_reduce of {count} in a window")
    here.place.synchronize()
    if handle.value:
        comm.deregister_comm_window(handle)
    del memory, x
    comm.nccl.ncclMemFree(pointer)


def memory_at(pointer, size, device):
    """Bytes that something else allocated, as a tensor."""
    if device.type == "cpu":
        import ctypes

        return torch.frombuffer((ctypes.c_ubyte * size).from_address(pointer), dtype=torch.uint8)

    class Place:
        __cuda_array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (pointer, False), "version": 2}

    return torch.as_tensor(Place(), device=device)


def captured(here, comm):
    """What a decoding step may call, captured and replayed on inputs that change."""
    n, dtype = here.n, torch.bfloat16
    for count in (8, 4096, 262144):
        x, sizes = here.blank(count, dtype), [count] * n
        summed, whole, block, exchanged = here.blank(count, dtype), here.blank(count * n, dtype), here.blank(count, dtype), here.blank(count * n, dtype)
        rows, spread, came = here.blank(count * n, dtype), here.blank(count, dtype), here.blank(count, dtype)

        def step():
            spread.copy_(x)
            comm.outplace_all_reduce(x, summed)
            comm.all_gather(whole, summed)
            comm.all_gather(rows, x, sizes=sizes)
            comm.reduce_scatter(block, rows, Op.MAX)
            comm.all_to_all_single(exchanged, rows)
            comm.broadcast(spread, n - 1)
            comm.group_start()
            comm.send(x, (here.me + 1) % n)
            comm.recv(came, (here.me - 1) % n)
            comm.group_end()

        step()
        here.place.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        for replay in range(10):
            call = here.call()
            inputs = here.all_give(call, count, dtype)
            x.copy_(inputs[here.me])
            graph.replay()
            here.place.synchronize()
            total = joined(Op.SUM, inputs)
            here.equal(summed, total, f"all_reduce of {count}, replay {replay}")
            here.equal(whole, total.repeat(n), f"all_gather of {count}, replay {replay}")
            here.equal(rows, torch.cat(inputs), f"all_gather with sizes of {count}, replay {replay}")
            here.equal(block, inputs[here.me], f"reduce_scatter of {count}, replay {replay}")
            here.equal(exchanged, inputs[here.me].repeat(n), f"all_to_all_single of {count}, replay {replay}")
            here.equal(spread, inputs[n - 1], f"broadcast of {count}, replay {replay}")
            here.equal(came, inputs[(here.me - 1) % n], f"send and recv of {count}, replay {replay}")
        here.place.synchronize()
        del graph


def more(here, comm):
    """Communicators with each configuration that SGLang makes, of fewer ranks, and by a store alone; the first one works on."""
    here.rank.check(here.communicator(dist.new_group([here.me], backend="gloo", use_local_synchronization=True)).disabled, "one of one rank is on")
    few = list(range(here.n - 1))
    group = dist.new_group(few, backend="gloo")
    stateless = here.engine.StatelessProcessGroup(here.me, here.n, dist.PrefixStore("stateless", here.place.store))
    ways = [
        ("with symmetric memory", None, None, {"is_symmetric_memory_enabled": True}), ("without SMs", None, None, {"cta_policy": ZERO_CTAS}),
        ("by a store", None, stateless, {}), ("again", None, None, {}),
    ] + ([("of fewer", few, group, {})] if len(few) > 1 else [])
    for name, members, group, options in ways:
        if members is not None and here.me not in members:
            continue
        other = here.communicator(group, **options)
        call = here.call()
        x, inputs = here.give(call, 5000), here.all_give(call, 5000, ranks=members)
        with other.change_state(enable=True):
            other.all_reduce(x)
        here.equal(x, joined(Op.SUM, inputs), f"one {name}")
        other.nccl.ncclCommDestroy(other.comm)
    dist.barrier()
    call = 1 << 20  # those outside of the smaller one have counted fewer
    x, inputs = here.give(call, 5000), here.all_give(call, 5000)
    comm.all_reduce(x)
    here.equal(x, joined(Op.SUM, inputs), "the first one")


def work(rank):
    here = Here(rank)
    rank.ready()
    comm = here.communicator()
    for group in [the_library, off_and_on]:
        with rank.group(group.__name__):
            group(here, comm)
    for group in [all_reduce, gather_and_scatter, uneven, broadcast, messages, grouped, window] + ([] if here.cpu else [captured]) + [more]:
        with rank.group(group.__name__), comm.change_state(enable=True):
            group(here, comm)
    with rank.group("destroy"):
        comm.nccl.ncclCommDestroy(comm.comm)
    dist.destroy_process_group()


def main():
    parser = base.parser(__doc__.splitlines()[0])
    parser.add_argument("--library", help="path of the NCCL to open (default: what SGLang takes, SGLANG_NCCL_SO_PATH or libnccl.so.2)")
    parser.add_argument("--cpu", action="store_true", help="host memory, for libcollectives' drop-in where there is no GPU")
    options = parser.parse_args()
    engines.find("sglang")
    if options.cpu:
        options.backend = "gloo"
    elif options.backend == "gloo":
        base.base.skip("it calls NCCL by name; --cpu tries it on libcollectives' drop-in")
    team = base.start(work, options)
    team.wait()
    team.finish()


if __name__ == "__main__":
    main()
