"""What the clients of torch share: its devices, its process groups, data whose reductions are known, comparisons."""

import contextlib
import datetime
import os

import ranks as base

try:
    import torch
    import torch.distributed as dist
except ImportError as missing:
    base.skip(f"no torch here ({missing})")

STUCK_SECONDS = 30  # torch's watchdog then says which call it is, and ends the process


def parser(about, compares=False):
    result = base.parser(about, compares)
    result.add_argument("--backend", choices=["nccl", "gloo"], default="nccl", help="gloo: on CPUs, which tries the client itself")
    return result


def choose_ranks(options):
    """How many ranks, or the end of this process if they cannot run here. Asks NVML and leaves CUDA alone."""
    if options.backend == "gloo":
        return options.ranks or 2
    if not dist.is_nccl_available():
        base.skip("this torch has no NCCL backend")
    gpus = torch.cuda.device_count()
    ranks = options.ranks or gpus
    if ranks < 2 or ranks > gpus:
        base.skip(f"{max(ranks, 2)} ranks want as many GPUs, and torch sees {gpus}")
    return ranks


def start(work, options, count=0, **shared):
    """A team whose ranks find each other by a store in this process; `shared` is theirs as it is."""
    count = count or choose_ranks(options)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    team = base.Team(work, count, options, {"port": store.port, **shared})
    team.store = store
    return team


class Place:
    """Where a rank works: its device, and the store by which it finds the others."""

    def __init__(self, rank):
        self.on_gpu = rank.options.backend == "nccl"
        self.rank = rank
        self.device = torch.device("cuda", rank.rank) if self.on_gpu else torch.device("cpu")
        if self.on_gpu:
            torch.cuda.set_device(self.device)
        self.store = dist.TCPStore("127.0.0.1", rank.shared["port"], is_master=False)

    def init(self, name, bound=True):
        """init_process_group. `bound`: communicators at once, and split from one another; else each when it is first used."""
        device = self.device if bound and self.on_gpu else None
        dist.init_process_group(self.rank.options.backend, store=dist.PrefixStore(name, self.store), rank=self.rank.rank, world_size=self.rank.ranks,
                                timeout=datetime.timedelta(seconds=min(self.rank.options.seconds, STUCK_SECONDS)), device_id=device)

    def synchronize(self):
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def stream(self):
        """A stream of its own, where there are streams."""
        return torch.cuda.Stream(self.device) if self.on_gpu else None

    def on(self, stream):
        return torch.cuda.stream(stream) if stream is not None else contextlib.nullcontext()

    def announce(self):
        if self.rank.rank == 0:
            library = base.nccl_libraries()
            version = ".".join(map(str, torch.cuda.nccl.version())) if self.on_gpu else "none"
            self.rank.result("library", library)
            self.rank.line(f"torch {torch.__version__}, {self.rank.ranks} ranks on {self.rank.options.backend}, NCCL {version}: {' '.join(library) or 'no library'}")


# Of every type, integers whose sums over 16 ranks the type holds exactly.
SPANS = {
    torch.int8: (-7, 15), torch.uint8: (0, 16), torch.int32: (-(1 << 20), 1 << 21), torch.int64: (-(1 << 40), 1 << 41), torch.bool: (0, 2),
    torch.float16: (-128, 257), torch.bfloat16: (-16, 33), torch.float32: (-(1 << 19), 1 << 20), torch.float64: (-(1 << 40), 1 << 41),
    torch.float8_e4m3fn: (0, 2), torch.float8_e5m2: (0, 2),
}


def numbers(call, rank, count, device):
    """Positive integers that differ by call, rank and element."""
    mixed = torch.arange(count, device=device, dtype=torch.int64) * 2654435761 + (rank + 1) * 40503000017 + call * 69069000031
    mixed = mixed & 0x7FFFFFFF
    mixed = (mixed ^ (mixed >> 15)) * 2246822519 & 0x7FFFFFFF
    return (mixed ^ (mixed >> 13)) * 3266489917 >> 7 & 0x7FFFFFFF


def cast(wide, dtype):
    """From int64 or float64, also to types that neither converts to in one step."""
    return wide.to(torch.float32).to(dtype) if dtype in (torch.float8_e4m3fn, torch.float8_e5m2) else wide.to(dtype)


def values(call, rank, count, dtype, device):
    low, span = SPANS[dtype]
    wide = numbers(call, rank, count, device) % span + low
    return cast(wide, dtype)


def wide(tensor):
    """The same numbers where sums and products of several are exact."""
    if tensor.dtype.is_floating_point:
        return tensor.to(torch.float32).to(torch.float64) if tensor.element_size() == 1 else tensor.to(torch.float64)
    return tensor.to(torch.int64)


def as_bits(tensor):
    """A view as integers, so that NaN equals itself and -0 is not 0."""
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.contiguous().view(integer[tensor.element_size()])


def equal(rank, found, expected, what):
    """Counts a check that two tensors have the same bits."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        rank.check(False, f"{what}: found {found.dtype} {list(found.shape)}, expected {expected.dtype} {list(expected.shape)}")
        return
    same = torch.equal(as_bits(found), as_bits(expected))
    rank.check(same, lambda: f"{what}: {_first_difference(found, expected)}")


def near(rank, found, expected, bound, what):
    """Counts a check that no element of `found` is further from `expected` than `bound`, all in float64."""
    off = (found.to(torch.float64) - expected).abs()
    right = bool((off <= bound).all())  # NaN is not
    rank.check(right, lambda: f"{what}: off by up to {off.max().item():g}, {int((~(off <= bound)).sum())} of {off.numel()} beyond the bound")


def _first_difference(found, expected):
    differs = (as_bits(found) != as_bits(expected)).reshape(-1)
    count, width = int(differs.sum()), differs.numel() // max(found.numel(), 1)
    at = int(differs.nonzero()[0]) // width
    return f"element {at} of {found.numel()} is {found.reshape(-1)[at].item()}, expected {expected.reshape(-1)[at].item()}; {count} differ"
