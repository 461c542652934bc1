"""Every collective of torch.distributed on the nccl backend, each result held against one that is computed from the known inputs.

Inputs differ by rank, element and call. Sums are of integers that every type holds exactly, so they are compared bit by bit; what rounds has
its bound beside it. `--backend gloo` runs what gloo has too, on CPUs, and so tries this program itself.
"""

import functools
import hashlib
import time
import warnings

import torch_ranks as base
from torch_ranks import cast, dist, equal, near, numbers, torch, values, wide

Op = dist.ReduceOp
INTEGERS = [torch.int8, torch.uint8, torch.int32, torch.int64]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2]
COUNTS = [1, 7, 1000, 65537]
MANY = 1 << 20

GROUPS = []


def group(only=None, least=2):
    """A group of checks, run in the order in which they stand here. `only`: the backend that has them; `least`: ranks that they take."""
    def add(function):
        GROUPS.append((function, only, least))
        return function
    return add


class Here:
    """A rank's place, its data, and its comparisons."""

    def __init__(self, rank):
        self.rank, self.place = rank, base.Place(rank)
        self.me, self.n, self.device = rank.rank, rank.ranks, self.place.device
        self.nccl = rank.options.backend == "nccl"

    def call(self):
        return self.rank.next_call()

    def give(self, call, count, dtype=torch.float32, rank=None):
        """What a rank gives to a call, this one by default."""
        return values(call, self.me if rank is None else rank, count, dtype, self.device)

    def all_give(self, call, count, dtype=torch.float32, ranks=None):
        return [self.give(call, count, dtype, rank) for rank in (range(self.n) if ranks is None else ranks)]

    def blank(self, count, dtype=torch.float32):
        """A place for a result, holding something else."""
        return cast(torch.full((count,), 1, device=self.device, dtype=torch.int64), dtype)

    def equal(self, found, expected, what):
        equal(self.rank, found, expected, what)

    def near(self, found, expected, bound, what):
        near(self.rank, found, expected, bound, what)

    def check(self, right, what):
        self.rank.check(right, what)


def short(dtype):
    return str(dtype).removeprefix("torch.")


def cat(parts):
    """torch.cat for every type."""
    parts = list(parts)
    return torch.cat([base.as_bits(part) for part in parts]).view(parts[0].dtype)


def joined(op, inputs):
    """The reduction of `inputs` in their type, exact where the inputs were chosen for it."""
    stacked = torch.stack([wide(x) for x in inputs])
    if op == Op.PRODUCT:
        total = functools.reduce(torch.mul, stacked)
    elif op == Op.MAX:
        total = stacked.amax(0)
    elif op == Op.MIN:
        total = stacked.amin(0)
    else:
        total = stacked.sum(0)
    return cast(total, inputs[0].dtype)


def factors(here, call, count, dtype, rank):
    """Factors whose products are powers of two, with a sign where the type has one."""
    pick = numbers(call, rank, count, here.device) % 4
    wide_values = (pick % 2 + 1) * (1 if dtype == torch.uint8 else 1 - pick // 2 * 2)
    return cast(wide_values, dtype)


def reduce_inputs(here, op, call, count, dtype):
    if op == Op.PRODUCT:
        return [factors(here, call, count, dtype, rank) for rank in range(here.n)]
    return here.all_give(call, count, dtype)


def name_of(op):
    return {Op.SUM: "sum", Op.PRODUCT: "prod", Op.MAX: "max", Op.MIN: "min"}[op]


@group()
def all_reduce(here):
    for dtype in INTEGERS + FLOATS:
        for op in (Op.SUM, Op.PRODUCT, Op.MAX, Op.MIN):
            for count in COUNTS:
                call = here.call()
                inputs = reduce_inputs(here, op, call, count, dtype)
                mine = inputs[here.me].clone()
                dist.all_reduce(mine, op)
                here.equal(mine, joined(op, inputs), f"{short(dtype)} {name_of(op)} of {count}")
    for dtype in (torch.bfloat16, torch.float32):
        for count in (MANY, 8 * MANY + 3):
            call = here.call()
            mine = here.give(call, count, dtype)
            dist.all_reduce(mine)
            here.equal(mine, joined(Op.SUM, here.all_give(call, count, dtype)), f"{short(dtype)} sum of {count}")


@group(only="nccl")
def all_reduce_fp8(here):
    if torch.cuda.get_device_capability(here.device) < (9, 0):
        here.rank.line("  all_reduce_fp8: NCCL reduces fp8 from compute capability 9.0 on; left out")
        return
    for dtype in FLOAT8:
        for op in (Op.SUM, Op.MAX, Op.MIN):
            for count in COUNTS:
                call = here.call()
                inputs = here.all_give(call, count, dtype)
                mine = inputs[here.me].clone()
                dist.all_reduce(mine, op)
                here.equal(mine, joined(op, inputs), f"{short(dtype)} {name_of(op)} of {count}")


@group(only="nccl")
def all_reduce_avg(here):
    for dtype in INTEGERS + FLOATS:
        for count in COUNTS:
            call = here.call()
            span = 2 if dtype in (torch.int8, torch.uint8) else 11
            inputs = [cast(numbers(call, rank, count, here.device) % span * here.n, dtype) for rank in range(here.n)]
            mine = inputs[here.me].clone()
            dist.all_reduce(mine, Op.AVG)
            stacked = torch.stack([wide(x) for x in inputs])
            if dtype.is_floating_point:
                # Whoever divides first rounds the factor, n products and n-1 sums; whoever divides last rounds less.
                unit = torch.finfo(dtype).eps / 2
                here.near(mine, stacked.sum(0) / here.n, (here.n + 2) * unit / (1 - (here.n + 2) * unit) * stacked.abs().sum(0) / here.n, f"{short(dtype)} avg of {count}")
            else:
                here.equal(mine, cast(stacked.sum(0) // here.n, dtype), f"{short(dtype)} avg of {count}")


@group(only="nccl")
def all_reduce_premul_sum(here):
    for dtype in FLOATS:
        if dtype == torch.bfloat16:
            continue  # torch 2.11 gives NCCL no factor of this type: by value sums are 0, on NCCL itself too, and a tensor is refused
        # By value, and from a place on the device.
        for factor in (2.0, 0.5, torch.tensor([4.0], device=here.device, dtype=dtype)):
            for count in COUNTS:
                call = here.call()
                inputs = [cast(numbers(call, rank, count, here.device) % 7 * 2, dtype) for rank in range(here.n)]
                mine = inputs[here.me].clone()
                dist.all_reduce(mine, dist._make_nccl_premul_sum(factor))
                total = torch.stack([wide(x) for x in inputs]).sum(0) * float(factor)
                here.equal(mine, cast(total, dtype), f"{short(dtype)} sum of {count}, each times {float(factor)}")


@group()
def all_reduce_other_forms(here):
    call = here.call()
    mine = here.give(call, 1000, torch.bool)
    if here.nccl:
        dist.all_reduce(mine)  # of bool: or
        here.equal(mine, torch.stack(here.all_give(call, 1000, torch.bool)).any(0), "bool sum")
    call = here.call()
    parts = [torch.complex(*here.give(call, 2000, torch.float32, rank).view(2, 1000)) for rank in range(here.n)]
    mine = parts[here.me].clone()
    dist.all_reduce(mine)
    here.equal(mine, torch.stack(parts).sum(0), "complex64 sum")
    call = here.call()
    lists = [[here.give(call + 1000 * i, size, torch.float32, rank) for i, size in enumerate((3, 1000, 40000))] for rank in range(here.n)]
    mine = [x.clone() for x in lists[here.me]]
    dist.all_reduce_coalesced(mine)
    for i, found in enumerate(mine):
        here.equal(found, joined(Op.SUM, [each[i] for each in lists]), f"coalesced, tensor {i}")
    for first in (1, 3, 5):  # addresses that are those of one element
        call = here.call()
        room = here.blank(5000 + first, torch.bfloat16)
        room[first:] = here.give(call, 5000, torch.bfloat16)
        dist.all_reduce(room[first:])
        here.equal(room[first:], joined(Op.SUM, here.all_give(call, 5000, torch.bfloat16)), f"from element {first} of an allocation")
        here.equal(room[:first], here.blank(first, torch.bfloat16), f"before element {first}")
    empty = here.blank(0)
    dist.all_reduce(empty)
    here.check(empty.numel() == 0, "nothing")


@group()
def all_reduce_of_any_floats(here):
    """Whatever the order of the sum: its rounding bound, the same bits on all ranks and again."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        for count in (1000, 65537, MANY):
            generator = torch.Generator("cpu").manual_seed(here.call())
            inputs = torch.randn(here.n, count, generator=generator).to(dtype).to(here.device)
            twice = [inputs[here.me].clone() for _ in range(2)]
            for mine in twice:
                dist.all_reduce(mine)
            exact, size = inputs.to(torch.float64).sum(0), inputs.to(torch.float64).abs().sum(0)
            unit = torch.finfo(dtype).eps / 2
            least = torch.finfo(dtype).smallest_normal * unit * 2
            here.near(twice[0], exact, here.n * unit / (1 - here.n * unit) * size + here.n * least, f"{short(dtype)} of {count}")
            here.equal(twice[1], twice[0], f"{short(dtype)} of {count}, again")
            mine = hashlib.sha256(base.as_bits(twice[0]).cpu().numpy().tobytes()).hexdigest()
            all_of_them = [None] * here.n
            dist.all_gather_object(all_of_them, mine)
            here.check(len(set(all_of_them)) == 1, f"{short(dtype)} of {count}: ranks have different bits")


@group()
def broadcast(here):
    for root in range(here.n):
        for dtype in INTEGERS + FLOATS + FLOAT8 + [torch.bool]:
            if not here.nccl and dtype in FLOAT8 + [torch.bool]:
                continue
            for count in COUNTS if dtype == torch.float32 else (1, 1000):
                call = here.call()
                mine = here.give(call, count, dtype)
                dist.broadcast(mine, root)
                here.equal(mine, here.give(call, count, dtype, root), f"{short(dtype)} of {count} from {root}")


@group()
def reduce(here):
    for root in range(here.n):
        for dtype in INTEGERS + FLOATS:
            for op in (Op.SUM, Op.PRODUCT, Op.MAX, Op.MIN):
                call = here.call()
                inputs = reduce_inputs(here, op, call, 1003, dtype)
                mine = inputs[here.me].clone()
                dist.reduce(mine, root, op)
                if here.me == root:
                    here.equal(mine, joined(op, inputs), f"{short(dtype)} {name_of(op)} to {root}")


@group()
def all_gather(here):
    for dtype in INTEGERS + FLOATS + (FLOAT8 + [torch.bool] if here.nccl else []):
        for count in COUNTS:
            call = here.call()
            everyone = here.all_give(call, count, dtype)
            parts = [here.blank(count, dtype) for _ in range(here.n)]
            dist.all_gather(parts, everyone[here.me])
            here.equal(cat(parts), cat(everyone), f"list, {short(dtype)} of {count}")
            whole = here.blank(count * here.n, dtype)
            dist.all_gather_into_tensor(whole, everyone[here.me])
            here.equal(whole, cat(everyone), f"tensor, {short(dtype)} of {count}")
    if here.nccl:
        call = here.call()
        rows = here.all_give(call, 64 * 33)
        stacked = here.blank(here.n * 64 * 33).view(here.n, 64, 33)
        dist.all_gather_into_tensor(stacked, rows[here.me].view(64, 33))
        here.equal(stacked, torch.stack(rows).view(here.n, 64, 33), "stacked")
    call = here.call()
    whole = here.blank(1000 * here.n)
    mine = whole[1000 * here.me : 1000 * (here.me + 1)]
    mine.copy_(here.give(call, 1000))
    dist.all_gather_into_tensor(whole, mine)
    here.equal(whole, cat(here.all_give(call, 1000)), "in place")


@group(only="nccl")
def all_gather_uneven(here):
    for dtype in (torch.float32, torch.bfloat16, torch.int64):
        for base_count in (0, 1, 1000, 33333):
            call = here.call()
            counts = [base_count + 17 * rank for rank in range(here.n)]
            parts = [here.blank(count, dtype) for count in counts]
            dist.all_gather(parts, here.give(call, counts[here.me], dtype))
            for rank, part in enumerate(parts):
                here.equal(part, here.give(call, counts[rank], dtype, rank), f"{short(dtype)}, {counts[rank]} of {rank}")


@group()
def reduce_scatter(here):
    n, me = here.n, here.me
    for dtype in INTEGERS + FLOATS:
        for op in (Op.SUM, Op.PRODUCT, Op.MAX, Op.MIN):
            for count in COUNTS if op == Op.SUM else (1000,):
                call = here.call()
                inputs = reduce_inputs(here, op, call, count * n, dtype)
                expected = joined(op, inputs)[count * me : count * (me + 1)]
                what = f"{short(dtype)} {name_of(op)} of {count}"
                mine = here.blank(count, dtype)
                dist.reduce_scatter_tensor(mine, inputs[me], op)
                here.equal(mine, expected, f"tensor, {what}")
                mine = here.blank(count, dtype)
                dist.reduce_scatter(mine, list(inputs[me].chunk(n)), op)
                here.equal(mine, expected, f"list, {what}")
    call = here.call()
    inputs = here.all_give(call, 1000 * n)
    whole = inputs[me].clone()
    dist.reduce_scatter_tensor(whole[1000 * me : 1000 * (me + 1)], whole)
    here.equal(whole[1000 * me : 1000 * (me + 1)], joined(Op.SUM, inputs)[1000 * me : 1000 * (me + 1)], "in place")


@group(only="nccl")
def reduce_scatter_scaled(here):
    n, me = here.n, here.me
    for dtype in FLOATS:
        call = here.call()
        inputs = [cast(numbers(call, rank, 1000 * n, here.device) % 7 * 2, dtype) for rank in range(n)]
        total = torch.stack([wide(x) for x in inputs]).sum(0)[1000 * me : 1000 * (me + 1)]
        mine = here.blank(1000, dtype)
        if dtype != torch.bfloat16:  # see all_reduce_premul_sum
            dist.reduce_scatter_tensor(mine, inputs[me], dist._make_nccl_premul_sum(0.5))
            here.equal(mine, cast(total * 0.5, dtype), f"{short(dtype)}, each times 0.5")
        mine = here.blank(1000, dtype)
        dist.reduce_scatter_tensor(mine, inputs[me], Op.AVG)
        unit = torch.finfo(dtype).eps / 2
        here.near(mine, total / n, (n + 2) * unit / (1 - (n + 2) * unit) * total / n, f"{short(dtype)}, avg")  # nothing is negative


@group(only="nccl")
def reduce_scatter_uneven(here):
    n, me = here.n, here.me
    for dtype in (torch.float32, torch.bfloat16, torch.int32):
        for base_count in (1, 1000, 33333):
            call = here.call()
            counts = [base_count + 17 * rank for rank in range(n)]
            inputs = here.all_give(call, sum(counts), dtype)
            mine = here.blank(counts[me], dtype)
            dist.reduce_scatter(mine, list(inputs[me].split(counts)))
            here.equal(mine, joined(Op.SUM, inputs).split(counts)[me], f"{short(dtype)}, {counts[me]} of {sum(counts)}")


@group()
def all_to_all(here):
    n, me = here.n, here.me
    for dtype in (torch.int8, torch.int64, torch.bfloat16, torch.float32):
        for count in COUNTS:
            call = here.call()
            inputs = here.all_give(call, count * n, dtype)
            out = here.blank(count * n, dtype)
            dist.all_to_all_single(out, inputs[me])
            here.equal(out, cat([x.chunk(n)[me] for x in inputs]), f"tensor, {short(dtype)} of {count}")
    for base_count in (0, 1, 1000, 20000):
        # From rank i to rank j: less or more with both, and nothing at all here and there.
        counts = [[base_count + 5 * i + 3 * j if (i + j) % 3 else 0 for j in range(n)] for i in range(n)]
        call = here.call()
        inputs = [here.give(call, sum(counts[i]), torch.float32, i) for i in range(n)]
        expected = cat([inputs[i].split(counts[i])[me] for i in range(n)])
        out = here.blank(expected.numel())
        dist.all_to_all_single(out, inputs[me], [counts[i][me] for i in range(n)], counts[me])
        here.equal(out, expected, f"tensor, uneven from {base_count}")
        if here.nccl:
            parts = [here.blank(counts[i][me]) for i in range(n)]
            dist.all_to_all(parts, list(inputs[me].split(counts[me])))
            here.equal(cat(parts), expected, f"list, uneven from {base_count}")


@group()
def gather_and_scatter(here):
    n, me = here.n, here.me
    for root in range(n):
        for dtype in (torch.uint8, torch.int32, torch.bfloat16, torch.float32):
            for count in COUNTS:
                call = here.call()
                everyone = here.all_give(call, count, dtype)
                parts = [here.blank(count, dtype) for _ in range(n)] if me == root else None
                dist.gather(everyone[me], parts, dst=root)
                if me == root:
                    here.equal(cat(parts), cat(everyone), f"gather {short(dtype)} of {count} to {root}")
                call = here.call()
                whole = here.give(call, count * n, dtype, root)
                mine = here.blank(count, dtype)
                dist.scatter(mine, list(whole.chunk(n)) if me == root else None, src=root)
                here.equal(mine, whole.chunk(n)[me], f"scatter {short(dtype)} of {count} from {root}")


def pairs(here):
    return [(source, target) for source in range(here.n) for target in range(here.n) if source != target]


@group()
def send_and_receive(here):
    for count in COUNTS + [MANY]:
        for source, target in pairs(here):
            call = here.call()
            what = f"{count} from {source} to {target}"
            if here.me == source:
                dist.send(here.give(call, count), target)
            elif here.me == target:
                mine = here.blank(count)
                dist.recv(mine, source)
                here.equal(mine, here.give(call, count, rank=source), what)
            call = here.call()
            if here.me == source:
                dist.isend(here.give(call, count, torch.bfloat16), target).wait()
            elif here.me == target:
                mine = here.blank(count, torch.bfloat16)
                dist.irecv(mine, source).wait()
                here.equal(mine, here.give(call, count, torch.bfloat16, source), f"immediate, {what}")


@group()
def batches_of_messages(here):
    n, me = here.n, here.me
    left, right = (me - 1) % n, (me + 1) % n
    for count in COUNTS + [MANY]:
        call = here.call()
        mine = here.blank(count)
        given = here.give(call, count)
        requests = dist.batch_isend_irecv([dist.P2POp(dist.isend, given, right), dist.P2POp(dist.irecv, mine, left)])
        for request in requests:
            request.wait()
        here.equal(mine, here.give(call, count, rank=left), f"ring, {count}")
        # Everyone to everyone, two messages each way.
        call = here.call()
        here.rank.next_call()
        others = [rank for rank in range(n) if rank != me]
        given = {(rank, i): here.give(call + i, count + 31 * rank) for rank in others for i in range(2)}
        taken = {(rank, i): here.blank(count + 31 * me) for rank in others for i in range(2)}
        requests = dist.batch_isend_irecv([dist.P2POp(dist.isend, given[key], key[0]) for key in given] + [dist.P2POp(dist.irecv, taken[key], key[0]) for key in taken])
        for request in requests:
            request.wait()
        for (rank, i), found in taken.items():
            here.equal(found, here.give(call + i, count + 31 * me, rank=rank), f"mesh, {count}, message {i} of {rank}")


@group()
def objects(here):
    n, me = here.n, here.me
    mine = {"rank": me, "words": ["a" * (me + 1)] * (10 + 1000 * me)}
    expected = [{"rank": rank, "words": ["a" * (rank + 1)] * (10 + 1000 * rank)} for rank in range(n)]
    found = [None] * n
    dist.all_gather_object(found, mine)
    here.check(found == expected, "all_gather_object")
    for root in range(n):
        found = [None] * n if me == root else None
        dist.gather_object(mine, found, dst=root)
        here.check(me != root or found == expected, f"gather_object to {root}")
        found = [mine, root] if me == root else [None, None]
        dist.broadcast_object_list(found, src=root)
        here.check(found == [expected[root], root], f"broadcast_object_list from {root}")
        found = [None]
        dist.scatter_object_list(found, expected if me == root else None, src=root)
        here.check(found == [expected[me]], f"scatter_object_list from {root}")
    for source, target in pairs(here):
        if me == source:
            dist.send_object_list([mine, "to", target], target)
        elif me == target:
            found = [None] * 3
            dist.recv_object_list(found, source)
            here.check(found == [expected[source], "to", target], f"object list from {source} to {target}")


@group()
def barrier(here):
    for turn in range(5):
        here.place.store.add(f"arrived {turn}", 1)
        dist.barrier()
        here.check(here.place.store.add(f"arrived {turn}", 0) == here.n, f"barrier {turn} let go of a rank before all were there")
    work = dist.barrier(async_op=True)
    work.wait()
    over_gloo = dist.new_group(backend="gloo")
    here.place.store.add("arrived at the monitored one", 1)
    dist.monitored_barrier(over_gloo, wait_all_ranks=True)
    here.check(here.place.store.add("arrived at the monitored one", 0) == here.n, "monitored_barrier let go of a rank before all were there")
    dist.destroy_process_group(over_gloo)


@group()
def asynchronous(here):
    """Many calls under way at once, waited for in another order."""
    works = []
    for i in range(24):
        call = here.call()
        count = (1, 1000, 65537, 300000)[i % 4]
        if i % 3 == 0:
            mine = here.give(call, count)
            works.append((dist.all_reduce(mine, async_op=True), mine, joined(Op.SUM, here.all_give(call, count)), f"all_reduce {i}"))
        elif i % 3 == 1:
            mine = here.blank(count * here.n)
            work = dist.all_gather_into_tensor(mine, here.give(call, count), async_op=True)
            works.append((work, mine, cat(here.all_give(call, count)), f"all_gather {i}"))
        else:
            mine = here.give(call, count)
            works.append((dist.broadcast(mine, i % here.n, async_op=True), mine, here.give(call, count, rank=i % here.n), f"broadcast {i}"))
    for work, mine, expected, what in reversed(works):
        work.wait()
        here.equal(mine, expected, what)
    here.place.synchronize()
    for work, _, _, what in works:
        here.check(work.is_completed(), f"{what} is not completed after a wait for its device")
    call = here.call()
    mine = here.give(call, 1000)
    future = dist.all_reduce(mine, async_op=True).get_future().then(lambda done: done.value()[0] * 2)
    here.equal(future.wait(), joined(Op.SUM, here.all_give(call, 1000)) * 2, "a future's continuation")


def subsets(n):
    """Groups that overlap: neighbours, all but one, one alone, every second, all in another order."""
    sets = [[i, (i + 1) % n] for i in range(n)] + [[i for i in range(n) if i != out] for out in range(n)] + [[n - 1], list(range(0, n, 2)), list(range(n))]
    unique = []
    for each in map(sorted, sets):
        if each and each not in unique:
            unique.append(each)
    return unique


def try_group(here, pg, members, what):
    """One of each kind of call in a group of ranks. Every rank comes along, so that all number their calls alike."""
    calls = [here.call() for _ in range(4)]
    if here.me not in members:
        return
    size, mine = len(members), members.index(here.me)
    x = here.give(calls[0], 4099)
    dist.all_reduce(x, group=pg)
    here.equal(x, joined(Op.SUM, here.all_give(calls[0], 4099, ranks=members)), f"{what}: all_reduce")
    whole = here.blank(1000 * size)
    dist.all_gather_into_tensor(whole, here.give(calls[1], 1000), group=pg)
    here.equal(whole, cat(here.all_give(calls[1], 1000, ranks=members)), f"{what}: all_gather")
    x = here.give(calls[2], 333)
    dist.broadcast(x, group_src=size - 1, group=pg)
    here.equal(x, here.give(calls[2], 333, rank=members[-1]), f"{what}: broadcast")
    if here.nccl:
        x = here.blank(500)
        inputs = here.all_give(calls[3], 500 * size, ranks=members)
        dist.reduce_scatter_tensor(x, inputs[mine], group=pg)
        here.equal(x, joined(Op.SUM, inputs)[500 * mine : 500 * (mine + 1)], f"{what}: reduce_scatter")
    here.check(dist.get_rank(pg) == mine and dist.get_world_size(pg) == size, f"{what}: rank or size")


@group()
def new_group(here):
    made = [(members, dist.new_group(members)) for members in subsets(here.n)]
    for members, pg in made + made[::-1]:
        try_group(here, pg, members, f"ranks {members}")
    for members, pg in made:
        if here.me in members:
            here.place.synchronize()
            dist.destroy_process_group(pg)
    if here.n % 2 == 0:
        mine, all_of_them = dist.new_subgroups(2)
        for index, pg in enumerate(all_of_them):
            try_group(here, pg, [2 * index, 2 * index + 1], f"subgroup {index}")


@group(only="nccl")
def split_group(here):
    n = here.n
    halves = [list(range(n // 2)), list(range(n // 2, n))]
    for splits in (halves, [list(range(n))], [[rank] for rank in range(n)], [list(range(n - 1))]):
        pg = dist.split_group(split_ranks=splits)
        belongs = any(here.me in split for split in splits)
        here.check((pg is not None) == belongs, f"{splits}: a group for whom there is none, or the reverse")
        for split in splits:
            try_group(here, pg, split, f"split {splits}")
        if n >= 4 and splits is halves:
            again = dist.split_group(pg, split_ranks=[[0], [1]])
            for rank in range(n):
                index = halves[0].index(rank) if rank in halves[0] else halves[1].index(rank)
                try_group(here, again, [rank] if index < 2 else [], "split of a split")
    try_group(here, None, list(range(n)), "the parent afterwards")


@group(only="nccl")
def coalesced(here):
    n, me = here.n, here.me
    for late in (False, True):
        calls = [here.call() for _ in range(6)]
        sizes = [1, 17, 1000, 4096, 65537, 300000]
        mine = [here.give(call, size) for call, size in zip(calls, sizes)]
        with dist._coalescing_manager(async_ops=late) as manager:
            for x in mine:
                dist.all_reduce(x)
        if late:
            manager.wait()
        for x, call, size in zip(mine, calls, sizes):
            here.equal(x, joined(Op.SUM, here.all_give(call, size)), f"all_reduce of {size}, late {late}")
        outs = [here.blank(size * n) for size in sizes]
        given = [here.give(call, size) for call, size in zip(calls, sizes)]
        with dist._coalescing_manager(async_ops=late) as manager:
            for out, x in zip(outs, given):
                dist.all_gather_into_tensor(out, x)
        if late:
            manager.wait()
        for out, call, size in zip(outs, calls, sizes):
            here.equal(out, cat(here.all_give(call, size)), f"all_gather of {size}, late {late}")
        outs = [here.blank(size) for size in sizes]
        given = [here.give(call, size * n) for call, size in zip(calls, sizes)]
        with dist._coalescing_manager(async_ops=late) as manager:
            for out, x in zip(outs, given):
                dist.reduce_scatter_tensor(out, x)
        if late:
            manager.wait()
        for out, call, size in zip(outs, calls, sizes):
            here.equal(out, joined(Op.SUM, here.all_give(call, size * n))[size * me : size * (me + 1)], f"reduce_scatter of {size}, late {late}")
    # With a device named, calls of several kinds become one group of NCCL's.
    calls = [here.call() for _ in range(2)]
    out, block = here.blank(1000 * n), here.blank(1000)
    given = [here.give(calls[0], 1000), here.give(calls[1], 1000 * n)]
    everyone = dist.distributed_c10d._get_default_group()
    with dist._coalescing_manager(device=here.device, async_ops=True) as manager:
        everyone._allgather_base(out, given[0])
        everyone._reduce_scatter_base(block, given[1])
    manager.wait()
    here.equal(out, cat(here.all_give(calls[0], 1000)), "two kinds: all_gather")
    here.equal(block, joined(Op.SUM, here.all_give(calls[1], 1000 * n))[1000 * me : 1000 * (me + 1)], "two kinds: reduce_scatter")


@group(only="nccl")
def captured(here):
    """A CUDA graph with all_reduce, all_gather, reduce_scatter and kernels between them, replayed on inputs that change."""
    n, me = here.n, here.me
    for count in (8, 4096, 300000):
        x, whole, block = here.blank(count), here.blank(count * n), here.blank(count)
        copy = here.blank(count)

        def step():
            copy.copy_(x).mul_(2)
            dist.all_reduce(copy)
            dist.all_gather_into_tensor(whole, x)
            whole.add_(1)
            dist.reduce_scatter_tensor(block, whole)

        side = here.place.stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                step()
        torch.cuda.current_stream().wait_stream(side)
        here.place.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            step()
        for replay in range(6):
            call = here.call()
            inputs = [cast(numbers(call, rank, count, here.device) % 1000, torch.float32) for rank in range(n)]
            x.copy_(inputs[me])
            graph.replay()
            if replay == 3:  # an eager call between two replays
                eager = here.give(call, 100)
                dist.all_reduce(eager)
                here.equal(eager, joined(Op.SUM, here.all_give(call, 100)), "eager between replays")
            gathered = cat(inputs) + 1
            here.equal(copy, torch.stack(inputs).sum(0) * 2, f"all_reduce of {count}, replay {replay}")
            here.equal(whole, gathered, f"all_gather of {count}, replay {replay}")
            here.equal(block, gathered[count * me : count * (me + 1)] * n, f"reduce_scatter of {count}, replay {replay}")
        here.place.synchronize()
        del graph
    # A chain as of a decode step: many small ones, each needing the one before.
    x = here.blank(4096, torch.bfloat16)
    dist.all_reduce(x)
    here.place.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for _ in range(32):
            dist.all_reduce(x)
            x.div_(n)
    # A power of two as the number of ranks divides exactly; by another, each rank starts with the same.
    for replay in range(20):
        call = here.call()
        power_of_two = n & (n - 1) == 0
        inputs = [cast(numbers(call, rank if power_of_two else 0, 4096, here.device) % 8 * n, torch.bfloat16) for rank in range(n)]
        x.copy_(inputs[me])
        graph.replay()
        here.equal(x, cast(torch.stack([wide(each) for each in inputs]).sum(0) / n, torch.bfloat16), f"chain, replay {replay}")
    here.place.synchronize()
    del graph


@group(only="nccl")
def memory_pool(here):
    """Tensors in memory of NCCL's allocator, registered with the communicator."""
    backend = dist.distributed_c10d._get_default_group()._get_backend(here.device)
    pool = torch.cuda.MemPool(backend.mem_allocator)
    with torch.cuda.use_mem_pool(pool):
        x, whole = torch.empty(MANY, device=here.device), torch.empty(MANY * here.n, device=here.device)
    backend.register_mem_pool(pool)
    for _ in range(3):
        call = here.call()
        x.copy_(here.give(call, MANY))
        dist.all_gather_into_tensor(whole, x)
        here.equal(whole, cat(here.all_give(call, MANY)), "all_gather")
        dist.all_reduce(x)
        here.equal(x, joined(Op.SUM, here.all_give(call, MANY)), "all_reduce")
    here.place.synchronize()
    backend.deregister_mem_pool(pool)
    del x, whole, pool


@group()
def streams(here):
    """Three groups on a stream each, all under way at once, and one group on several streams in turn."""
    groups = [dist.new_group(list(range(here.n))) for _ in range(3)]
    own = [here.place.stream() for _ in groups]
    for turn in range(20):
        calls = [here.call() for _ in groups]
        count = (1000, 65537, MANY)[turn % 3]
        found = []
        for pg, stream, call in zip(groups, own, calls):
            with here.place.on(stream):
                x = here.give(call, count)
                dist.all_reduce(x, group=pg)
                found.append(x)
        here.place.synchronize()
        for index, (x, call) in enumerate(zip(found, calls)):
            here.equal(x, joined(Op.SUM, here.all_give(call, count)), f"turn {turn}, group {index}")
        found = []
        calls = [here.call() for _ in own]
        for stream, call in zip(own, calls):
            with here.place.on(stream):
                x = here.give(call, count)
                dist.all_reduce(x)
                found.append(x)
        here.place.synchronize()
        for index, (x, call) in enumerate(zip(found, calls)):
            here.equal(x, joined(Op.SUM, here.all_give(call, count)), f"turn {turn}, one group, stream {index}")


def pass_around(here):
    for source, target in pairs(here):
        call = here.call()
        if here.me == source:
            dist.send(here.give(call, 5000), target)
        elif here.me == target:
            mine = here.blank(5000)
            dist.recv(mine, source)
            here.equal(mine, here.give(call, 5000, rank=source), f"from {source} to {target}")


def again(here):
    """Destroyed and made anew: with communicators at once, with each when it is first used, at once again."""
    for turn, bound in enumerate((True, False, True)):
        name = f"made anew {turn} ({'at once' if bound else 'when used'})"
        here.place.init(name, bound)
        with here.rank.group(name):
            try_group(here, None, list(range(here.n)), "all")
            pass_around(here)  # where communicators come when used, each pair has one of its own
            if not bound:  # torch splits what is made at once, and a split takes everyone
                members = list(range(here.n - 1))
                pg = dist.new_group(members, use_local_synchronization=True) if here.me in members else None
                try_group(here, pg, members, "made by its members alone")
            here.place.synchronize()
        dist.destroy_process_group()


def one_process(here):
    """torch.cuda.nccl: one process with a communicator for each GPU, by ncclCommInitAll."""
    from torch.cuda import nccl

    devices = [torch.device("cuda", index) for index in range(here.n)]
    for dtype in (torch.float32, torch.float16, torch.int32):
        for count in (1, 1000, 65537):
            call = here.call()
            inputs = here.all_give(call, count, dtype)
            placed = [x.to(device) for x, device in zip(inputs, devices)]
            outs = [torch.empty_like(x) for x in placed]
            nccl.all_reduce(placed, outs)
            for out in outs:
                here.equal(out.to(here.device), joined(Op.SUM, inputs), f"all_reduce {short(dtype)} of {count} on {out.device}")
            out = torch.empty_like(placed[1])
            nccl.reduce(placed, output=out, root=1)
            here.equal(out.to(here.device), joined(Op.SUM, inputs), f"reduce {short(dtype)} of {count}")
            wholes = [torch.empty(count * here.n, dtype=dtype, device=device) for device in devices]
            nccl.all_gather(placed, wholes)
            for whole in wholes:
                here.equal(whole.to(here.device), cat(inputs), f"all_gather {short(dtype)} of {count} on {whole.device}")
            nccl.broadcast(placed, root=0)
            for x in placed:
                here.equal(x.to(here.device), inputs[0], f"broadcast {short(dtype)} of {count} on {x.device}")
            whole = here.give(call, count * here.n, dtype)
            placed = [whole.to(device) for device in devices]
            outs = [torch.empty(count, dtype=dtype, device=device) for device in devices]
            nccl.reduce_scatter(placed, outs)
            for index, out in enumerate(outs):
                expected = cast(wide(whole) * here.n, dtype)[count * index : count * (index + 1)]
                here.equal(out.to(here.device), expected, f"reduce_scatter {short(dtype)} of {count} on {out.device}")


def work(rank):
    warnings.simplefilter("ignore", FutureWarning)  # all_reduce_coalesced is on its way out
    here = Here(rank)
    here.place.synchronize()
    rank.ready()
    here.place.announce()
    here.place.init("first")
    for function, only, least in GROUPS:
        if (only in (None, rank.options.backend)) and rank.ranks >= least and (not rank.options.only or rank.options.only in function.__name__):
            with rank.group(function.__name__):
                function(here)
                here.place.synchronize()
    dist.destroy_process_group()
    if rank.options.only:
        return
    again(here)
    if here.nccl:
        with rank.group("one process, a communicator for each GPU"):
            if here.me == 0:
                one_process(here)
            here.place.synchronize()


def main():
    parser = base.parser(__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="WORD", help="the groups whose names have it")
    options = parser.parse_args()
    team = base.start(work, options)
    team.wait()
    team.finish()


if __name__ == "__main__":
    main()
