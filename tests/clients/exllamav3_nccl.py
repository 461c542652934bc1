"""exllamav3's tensor-parallel backend "nccl", its own file as it is: what a model's layers ask of TPBackendNCCL, one process a GPU.

Sums of fp32 travel as bf16 there; they are exact where the numbers allow that, and else within the rounding of n terms. What the
backend leaves to exllamav3's own shared memory (broadcasts, gathers) is not tried: it does not reach NCCL, and exllamav3's compiled
extension, which does it, is not loaded. `--backend gloo` runs the same class on CPUs, which tries this program itself.
"""

import hashlib
import importlib
import os
import socket

import engines
import torch_ranks as base
from torch_ranks import cast, dist, numbers, torch, values, wide

HIDDEN = [4096, 5120, 8192, 12288]
TOKENS = [1, 2, 8, 33, 512]
BF16, FP32 = 2.0**-8, 2.0**-24  # what a rounding may err by


class Extension:
    """What the backend's constructor asks of the compiled extension: to pin the memory that processes share."""

    def __init__(self, on_gpu):
        self.on_gpu = on_gpu

    def cuda_host_register(self, pointer, size, flags):
        self._succeeds("cudaHostRegister", pointer, size, flags)

    def cuda_host_unregister(self, pointer):
        self._succeeds("cudaHostUnregister", pointer)

    def cuda_host_get_device_pointer(self, pointer):
        return pointer  # the same address, wherever torch runs on Linux

    def cuda_device_get_attribute(self, attribute, device):
        return 1

    def pg_init_context(self, pointer):
        pass

    def _succeeds(self, name, *arguments):
        result = int(getattr(torch.cuda.cudart(), name)(*arguments)) if self.on_gpu else 0
        if result != 0:
            raise RuntimeError(f"{name}: {result}")


def load(on_gpu):
    engines.open_packages("exllamav3", "exllamav3.model", "exllamav3.util")
    debug = importlib.import_module("exllamav3.util.debug")
    engines.sys.modules["exllamav3.util"].log_tp = debug.log_tp
    engines.stand_in("exllamav3.ext", exllamav3_ext=Extension(on_gpu))
    module = importlib.import_module("exllamav3.model.model_tp_backend")
    if not on_gpu:
        on_host = lambda make: lambda *arguments, device=None, **rest: make(*arguments, **rest)
        module.torch = engines.Instead(torch, ones=on_host(torch.ones), zeros=on_host(torch.zeros))
        module.dist = engines.Instead(dist, init_process_group=lambda _, **rest: dist.init_process_group("gloo", **rest))
    return module


class Here:
    """A rank, exllamav3's module, the backend that it has made."""

    def __init__(self, rank):
        self.rank, self.place = rank, base.Place(rank)
        self.me, self.n, self.device = rank.rank, rank.ranks, self.place.device
        self.engine = load(self.place.on_gpu)
        self.tokens = TOKENS if self.place.on_gpu else TOKENS[:-2]

    def open(self, name, devices):
        """As exllamav3 does in every process: ranks are places in the list of devices, and one of them makes what they share."""
        if self.me == 0:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.place.store.set(name, f"tcp://127.0.0.1:{free.getsockname()[1]}")
        method = self.place.store.get(name).decode()
        key = f"{name}{method.rpartition(':')[2]}x{os.getppid()}"
        self.backend = self.engine.TPBackendNCCL(self.me, devices, devices[-1], method, self.me == devices[0], key)

    def all_give(self, call, shape, dtype):
        count = torch.Size(shape).numel()
        return [values(call, rank, count, dtype, self.device).reshape(shape) for rank in range(self.n)]

    def same_everywhere(self, tensor, name, what):
        """Have all ranks the same bits?"""
        self.place.synchronize()
        digest = hashlib.sha256(base.as_bits(tensor.cpu()).numpy().tobytes()).hexdigest()
        self.place.store.set(f"{name}/{self.me}", digest)
        theirs = [self.place.store.get(f"{name}/{rank}").decode() for rank in range(self.n)]
        self.rank.check(all(other == digest for other in theirs), f"{what}: not the bits of all ranks")


def fraction(call, rank, count, device):
    """fp32 numbers of many sizes and both signs, which no short type holds."""
    drawn = numbers(call, rank, count, device).to(torch.float64)
    return ((drawn / 2**30 - 1) * 2.0 ** (drawn % 7 - 3)).to(torch.float32)


def exact_sums(here):
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.int32, torch.int64):
        for hidden in HIDDEN if dtype == torch.float32 else HIDDEN[:1]:
            for tokens in here.tokens:
                # fp32 is given what bf16 holds: it goes that way.
                inputs = [x.to(dtype) for x in here.all_give(here.rank.next_call(), (1, tokens, hidden), torch.bfloat16 if dtype == torch.float32 else dtype)]
                x = inputs[here.me].clone()
                here.backend.all_reduce(x)
                here.place.synchronize()
                base.equal(here.rank, x, cast(sum(wide(y) for y in inputs), dtype), f"{dtype} of {tokens} x {hidden}")


def rounded_sums(here):
    """fp32 by bf16, and by itself as EXL3_TP_NCCL_FP32=1 has it."""
    for name, unit, straight in (("by bf16", BF16, False), ("by fp32", FP32, True)):
        here.engine._nccl_fp32 = straight
        for hidden in HIDDEN:
            for tokens in here.tokens:
                call = here.rank.next_call()
                inputs = [fraction(call, rank, tokens * hidden, here.device) for rank in range(here.n)]
                x = inputs[here.me].clone().reshape(1, tokens, hidden)
                here.backend.all_reduce(x)
                here.place.synchronize()
                exact, sizes = sum(wide(y) for y in inputs), sum(wide(y).abs() for y in inputs)
                bound = ((1 + unit) ** here.n - 1) * sizes  # a term is rounded at first, and at most with each of the others that joins it
                base.near(here.rank, x.reshape(-1), exact, bound, f"{name}, {tokens} x {hidden}")
                here.same_everywhere(x, f"{call}", f"{name}, {tokens} x {hidden}")
    here.engine._nccl_fp32 = False


def without_some(here):
    """A rank that has no part of a layer contributes zeros; exllamav3 says so beside them."""
    for absent in range(here.n):
        inputs = here.all_give(here.rank.next_call(), (1, 3, 4096), torch.bfloat16)
        x = (torch.zeros_like(inputs[here.me]) if here.me == absent else inputs[here.me]).float()
        here.backend.all_reduce(x, contribution=here.me != absent)
        here.place.synchronize()
        expected = sum(wide(y) for rank, y in enumerate(inputs) if rank != absent)
        base.equal(here.rank, x, expected.to(torch.float32), f"without rank {absent}")


def a_model(here):
    """Passes of a decoder of 40 layers: two sums a layer and a barrier before each pass. What is summed depends on what was."""
    for tokens in (1, 8, 256) if here.place.on_gpu else (1,):
        x = torch.zeros(1, tokens, 4096, device=here.device)
        expected = torch.zeros_like(x)
        for step in range(3):
            here.backend.fwd_barrier()
            for layer in range(80):
                inputs = here.all_give(here.rank.next_call(), x.shape, torch.bfloat16)
                part = (inputs[here.me].float() + x) if here.me == 0 else inputs[here.me].float()
                here.backend.all_reduce(part)
                joined = sum(wide(y) for y in inputs) + wide(expected)
                x, expected = part.remainder(8), joined.to(torch.float32).remainder(8)
            here.place.synchronize()
            base.equal(here.rank, x, expected, f"{tokens} tokens, pass {step}")


def work(rank):
    here = Here(rank)
    rank.ready()
    here.place.announce()
    for name, devices in (("in order", list(range(here.n))), ("in reverse", list(range(here.n))[::-1])):
        with rank.group(f"{name}: open"):
            here.open(name.replace(" ", ""), devices)
        for group in (exact_sums, rounded_sums, without_some, a_model):
            with rank.group(f"{name}: {group.__name__}"):
                group(here)
        with rank.group(f"{name}: close"):
            here.backend.close()


def main():
    options = base.parser(__doc__.splitlines()[0]).parse_args()
    engines.find("exllamav3")
    # exllamav3's own choice, made in a file that is not loaded here.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    team = base.start(work, options)
    team.wait()
    team.finish()


if __name__ == "__main__":
    main()
