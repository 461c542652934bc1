"""Short trainings by DistributedDataParallel and FSDP on seeded data, whose losses are held against a training without communication.

How far apart losses may be is not guessed. Ranks join their gradients, and joining n of them in a type of unit roundoff u errs by at most
(n + 2) u times the mean of their magnitudes, in whatever order; products of matrices may add up in another order too, which in fp32 is
32 * 2^-24 of it. One process trains on everyone's data, once as it is and then with errors of just that size and of random sign
added to each element of each gradient. The loss may be off by FACTOR times the most that this does to it, at each step; two runs that
both joined, as with --against, by twice that.
"""

import copy
import os

import torch_ranks as base
from torch_ranks import dist, torch

WIDTH, INNER, HEADS, BLOCKS, TOKENS, BATCH = 192, 500, 6, 3, 24, 6
RATE, MOMENTUM = 0.05, 0.9
FACTOR, PATTERNS = 8, 3
MATRIX_ROUNDING = 32 * 2.0**-24


class Block(torch.nn.Module):
    """Attention and an MLP, with weights of sizes that few numbers of ranks divide. Plain products, whose bits repeat."""

    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.qkv, self.out = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.up, self.down = torch.nn.Linear(WIDTH, INNER), torch.nn.Linear(INNER, WIDTH)

    def forward(self, x):
        batch, tokens, _ = x.shape
        q, k, v = (part.view(batch, tokens, HEADS, -1).transpose(1, 2) for part in self.qkv(self.norm_1(x)).chunk(3, -1))
        scores = (q @ k.transpose(-1, -2)) * (WIDTH // HEADS) ** -0.5
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, WIDTH)
        x = x + self.out(mixed)
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm_2(x))))


def make_model(device):
    torch.manual_seed(7)
    return torch.nn.Sequential(*(Block() for _ in range(BLOCKS)), torch.nn.Linear(WIDTH, 17)).to(device)


def batch_of(step, rank, device):
    generator = torch.Generator("cpu").manual_seed(1000 * step + rank)
    x = torch.randn(BATCH, TOKENS, WIDTH, generator=generator)
    target = torch.tanh(x[..., :17] * 2 + x[..., 17:34].roll(1, 1))
    return x.to(device), target.to(device)


def loss_of(model, x, target):
    return torch.nn.functional.mse_loss(model(x).float(), target)


def optimizer_of(model):
    return torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)


class Kind:
    """A way to train: how a model is made parallel, what its weights compute in, and what its gradients are joined in."""

    def __init__(self, name, wrap, compute, joins):
        self.name, self.wrap, self.compute, self.joins = name, wrap, compute, joins


def ddp(model, place):
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(model, device_ids=[place.device.index] if place.on_gpu else None, bucket_cap_mb=0.5)


def ddp_bf16(model, place):
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

    model = ddp(model, place)
    model.register_comm_hook(None, default_hooks.bf16_compress_hook)
    return model


def fsdp2(model, place, **options):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(place.device.type, (place.rank.ranks,))
    for block in model[:BLOCKS]:
        fully_shard(block, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def fsdp2_bf16(model, place):
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return fsdp2(model, place, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.bfloat16))


def fsdp1(model, place):
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    return FullyShardedDataParallel(model, auto_wrap_policy=ModuleWrapPolicy({Block}), device_id=place.device, use_orig_params=True)


KINDS = [
    Kind("ddp", ddp, torch.float32, torch.float32), Kind("ddp_bf16_gradients", ddp_bf16, torch.float32, torch.bfloat16),
    Kind("fsdp2", fsdp2, torch.float32, torch.float32), Kind("fsdp2_bf16", fsdp2_bf16, torch.bfloat16, torch.bfloat16),
    Kind("fsdp1", fsdp1, torch.float32, torch.float32),
]


def train(kind, place, steps):
    """The losses over all ranks' data, step by step."""
    model = kind.wrap(make_model(place.device), place)
    optimizer, losses = optimizer_of(model), []
    for step in range(steps):
        x, target = batch_of(step, place.rank.rank, place.device)
        if kind.compute != torch.float32:
            x = x.to(kind.compute)
        loss = loss_of(model, x, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total = loss.detach().double()
        dist.all_reduce(total)
        losses.append(total.item() / place.rank.ranks)
    return losses


def gradients_of(model, kind, step, rank, device):
    """One rank's gradients as it would give them to be joined, and its loss."""
    x, target = batch_of(step, rank, device)
    if kind.compute != torch.float32:
        working = copy.deepcopy(model).to(kind.compute)
        x = x.to(kind.compute)
    else:
        working = model
    loss = loss_of(working, x, target)
    grads = torch.autograd.grad(loss, list(working.parameters()))
    return loss.item(), [grad.to(kind.joins).float() for grad in grads]


def train_alone(kind, ranks, device, steps, errs=None):
    """The same training in one process; `errs`: a generator of random signs, and gradients that err as joined ones may."""
    model = make_model(device)
    optimizer, losses = optimizer_of(model), []
    error = (ranks + 2) * torch.finfo(kind.joins).eps / 2 + MATRIX_ROUNDING
    for step in range(steps):
        each = [gradients_of(model, kind, step, rank, device) for rank in range(ranks)]
        losses.append(sum(loss for loss, _ in each) / ranks)
        for index, parameter in enumerate(model.parameters()):
            stacked = torch.stack([grads[index] for _, grads in each])
            parameter.grad = stacked.mean(0)
            if errs is not None:
                signs = torch.randint(0, 2, parameter.shape, generator=errs).to(device) * 2 - 1
                parameter.grad += signs * error * stacked.abs().mean(0)
        optimizer.step()
    return losses


def allowed(kind, ranks, device, steps):
    """The losses to expect, and how far off each may be."""
    exact = train_alone(kind, ranks, device, steps)
    bounds = [16 * 2.0**-24 * abs(loss) for loss in exact]  # what sums over the outputs round in the loss itself
    for pattern in range(PATTERNS):
        erring = train_alone(kind, ranks, device, steps, torch.Generator("cpu").manual_seed(pattern))
        bounds = [max(bound, FACTOR * abs(a - b)) for bound, a, b in zip(bounds, erring, exact)]
    if kind.compute != torch.float32:
        # The forward pass rounds to bf16 as well, in products whose order may be another: a ulp of each output, over many that
        # differ independently, is far below this.
        bounds = [bound + 2.0**-9 * abs(loss) for bound, loss in zip(bounds, exact)]
    # What errs at one step stays: no later bound is smaller.
    for step in range(1, steps):
        bounds[step] = max(bounds[step], bounds[step - 1])
    return exact, bounds


def work(rank):
    place = base.Place(rank)
    rank.ready()
    place.announce()
    place.init("training")
    for kind in KINDS:
        with rank.group(kind.name):
            losses = train(kind, place, rank.options.steps)
            place.synchronize()
            again = train(kind, place, rank.options.steps)
            rank.check(losses == again, f"the same training again: {again[-1]!r} after {losses[-1]!r}")
            if rank.rank == 0:
                expected, bounds = allowed(kind, rank.ranks, place.device, rank.options.steps)
                off = [abs(a - b) for a, b in zip(losses, expected)]
                for step in range(rank.options.steps):
                    rank.check(off[step] <= bounds[step], f"step {step}: {losses[step]:.9g} is {off[step]:.3g} off {expected[step]:.9g}: allowed are {bounds[step]:.3g}")
                rank.check(losses[-1] < 0.9 * losses[0], f"it learns nothing: {losses[0]} to {losses[-1]}")
                rank.line(f"  {kind.name}: losses {' '.join(f'{loss:.6f}' for loss in losses)}")
                rank.line(f"  {kind.name}: off by {max(off):.2e} at most, allowed are {bounds[0]:.2e} to {bounds[-1]:.2e}")
                rank.result(kind.name, {"losses": losses, "bounds": bounds})
            place.synchronize()
    dist.destroy_process_group()


def main():
    parser = base.parser(__doc__.splitlines()[0], compares=True)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # the same bits on any stream
    team = base.start(work, options)
    other = base.base.read_other(options, team.ranks)
    team.wait()
    if other:
        for kind in KINDS:
            mine, theirs = team.results.get(kind.name), other.get(kind.name)
            if not mine or not theirs:
                team.count(False, f"{kind.name}: missing in one of both runs")
                continue
            off = [abs(a - b) for a, b in zip(mine["losses"], theirs["losses"])]
            right = len(mine["losses"]) == len(theirs["losses"]) and all(a <= 2 * b for a, b in zip(off, mine["bounds"]))
            team.count(right, f"{kind.name}: off the other run's losses by {max(off):.3g}, allowed are {2 * mine['bounds'][-1]:.3g}")
            print(f"{kind.name}: off the other run's losses by {max(off):.2e}, {sum(a == 0 for a in off)} of {len(off)} the same bits")
    team.finish()


if __name__ == "__main__":
    main()
