"""A Llama of transformers by `tp_plan="auto"`: seeded random weights, saved once, loaded in shards by every rank.

What the ranks give together may round elsewhere than one GPU, but not more: against the same weights in fp32, its root mean square error may
be SLACK times that of one device in bf16. Two such runs (--against) may then be twice as far apart. The same run again gives the same bits
(in this process, and with --same in another). `--backend gloo` tries this program on CPUs, with a smaller model.
"""

import datetime
import hashlib
import importlib.util
import os
import shutil
import statistics
import tempfile
import time
import warnings

import torch_ranks as base
from torch_ranks import dist, torch

SLACK = 1.5
KEPT = 257  # logits of each prompt that go into --json
SIZES = {"nccl": (3072, 24, 12, 8448, 4, 8192), "gloo": (192, 12, 12, 360, 2, 512)}
# Rows and tokens: a token, a few, a batch, a prompt.
PROMPTS = {"one token": (1, 1), "7 tokens": (1, 7), "64 tokens": (1, 64), "3 x 50 tokens": (3, 50), "8 x 1 token": (8, 1), "300 tokens": (1, 300)}


def config_of(options):
    from transformers import LlamaConfig

    hidden, heads, kv_heads, inner, layers, vocabulary = SIZES[options.backend]
    return LlamaConfig(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv_heads, intermediate_size=inner, num_hidden_layers=options.layers or layers,
                       vocab_size=vocabulary, max_position_embeddings=4096, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None, pad_token_id=None)


def save_model(options, device, folder):
    from transformers import LlamaForCausalLM

    torch.manual_seed(11)
    with torch.device(device):
        model = LlamaForCausalLM(config_of(options))
    model.to(torch.bfloat16).save_pretrained(folder)


def load_whole(device, folder, dtype):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").to(device).eval()


def load_sharded(folder):
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager", tp_plan="auto").eval()
        except TypeError:  # later ones take it in a configuration only
            from transformers.distributed import DistributedConfig

            return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager", distributed_config=DistributedConfig(tp_plan="auto")).eval()


def prompt(name, vocabulary, device):
    rows, tokens = PROMPTS[name]
    generator = torch.Generator("cpu").manual_seed(100 * rows + tokens)
    return torch.randint(0, vocabulary, (rows, tokens), generator=generator).to(device)


@torch.inference_mode()
def logits_of(model, ids):
    found = model(input_ids=ids, use_cache=False).logits
    return found.full_tensor() if hasattr(found, "full_tensor") else found


def root_mean_square(x):
    return x.double().square().mean().sqrt().item()


def digest(tensor):
    return hashlib.sha256(base.as_bits(tensor).cpu().numpy().tobytes()).hexdigest()


def whole_model(place, folder, vocabulary):
    """One device's word: logits in fp32, and how far those in bf16 are off."""
    expected, errors = {}, {}
    exact = load_whole(place.device, folder, torch.float32)
    for name in PROMPTS:
        expected[name] = logits_of(exact, prompt(name, vocabulary, place.device)).float()
    del exact
    rounded = load_whole(place.device, folder, torch.bfloat16)
    for name in PROMPTS:
        errors[name] = root_mean_square(logits_of(rounded, prompt(name, vocabulary, place.device)).float() - expected[name])
    return expected, errors


@torch.inference_mode()
def milliseconds(place, model, ids, turns):
    """The median of a forward pass, from call to result, and the smallest."""
    taken = []
    for turn in range(turns + 3):
        dist.barrier()
        place.synchronize()
        begin = time.perf_counter()
        model(input_ids=ids, use_cache=False)
        place.synchronize()
        if turn >= 3:
            taken.append(1000 * (time.perf_counter() - begin))
    return statistics.median(taken), min(taken)


def check_logits(rank, place, model, vocabulary, expected, errors):
    kept = {}
    for name in PROMPTS:
        ids = prompt(name, vocabulary, place.device)
        first = logits_of(model, ids)
        for turn in range(3):
            base.equal(rank, logits_of(model, ids), first, f"{name}, again")
        digests = [None] * rank.ranks
        dist.all_gather_object(digests, digest(first))
        rank.check(len(set(digests)) == 1, f"{name}: ranks have different logits")
        if rank.rank == 0:
            error = root_mean_square(first.float() - expected[name])
            rank.check(error <= SLACK * errors[name], f"{name}: off fp32 by {error:.3g} (root mean square), one device by {errors[name]:.3g}")
            values = first.float().reshape(-1)
            stride = max(values.numel() // KEPT, 1)
            kept[name] = {"sha256": digests[0], "every": stride, "logits": values[::stride][:KEPT].tolist(), "error": error, "one_device_error": errors[name]}
            rank.line(f"  {name}: off fp32 by {error:.3e}, one device by {errors[name]:.3e}, of {root_mean_square(expected[name]):.3f}; {digests[0][:16]}")
    if rank.rank == 0:
        rank.result("prompts", kept)


def check_generation(rank, model, vocabulary, device):
    """Greedy, with a KV cache: all ranks say the same words."""
    ids = prompt("64 tokens", vocabulary, device)
    with torch.inference_mode():
        words = [model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)[0, ids.shape[1]:].tolist() for _ in range(2)]
    rank.check(words[0] == words[1], f"{words[0]}, and again {words[1]}")
    everyone = [None] * rank.ranks
    dist.all_gather_object(everyone, words[0])
    rank.check(all(each == words[0] for each in everyone), f"ranks differ: {everyone}")
    if rank.rank == 0:
        rank.result("generated", words[0])


def is_sharded(model, ranks, config):
    """Does a rank hold its share of a column-parallel weight?"""
    weight = model.model.layers[0].mlp.up_proj.weight
    local = weight.to_local() if hasattr(weight, "to_local") else weight
    return local.shape[0] == config.intermediate_size // ranks


def work(rank):
    import transformers

    place = base.Place(rank)
    os.environ.update(RANK=str(rank.rank), LOCAL_RANK=str(rank.rank), WORLD_SIZE=str(rank.ranks), LOCAL_WORLD_SIZE=str(rank.ranks),
                      MASTER_ADDR="127.0.0.1", MASTER_PORT=str(rank.shared["port"]))
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    rank.ready()
    place.announce()
    folder, config = rank.shared["folder"], config_of(rank.options)
    expected = errors = None
    with rank.group("whole model"):
        if rank.rank == 0:
            rank.line(f"  transformers {transformers.__version__}, hidden {config.hidden_size}, {config.num_hidden_layers} layers, {config.num_attention_heads} heads")
            save_model(rank.options, place.device, folder)
            expected, errors = whole_model(place, folder, config.vocab_size)
            for name, logits in expected.items():
                rank.check(errors[name] < 0.05 * root_mean_square(logits), f"{name}: bf16 leaves too little of these logits to compare them")
            place.store.set("saved", "yes")
        # By the store: the watchdog of a collective would not wait so long.
        place.store.wait(["saved"], datetime.timedelta(seconds=rank.options.seconds))
    place.init("tensor parallel")
    model = None
    with rank.group("shards"):
        model = load_sharded(folder)
        rank.check(is_sharded(model, rank.ranks, config), "the model's weights are not sharded")
    if model is None:
        return
    with rank.group("logits"):
        check_logits(rank, place, model, config.vocab_size, expected, errors)
    with rank.group("generation"):
        check_generation(rank, model, config.vocab_size, place.device)
    with rank.group("time"):
        times = {}
        for name in ("one token", "64 tokens", "300 tokens"):
            times[name] = milliseconds(place, model, prompt(name, config.vocab_size, place.device), rank.options.turns)
        if rank.rank == 0:
            rank.result("ms", {name: median for name, (median, _) in times.items()})
            rank.line("  ms a forward pass, median (least): " + ", ".join(f"{name} {median:.2f} ({least:.2f})" for name, (median, least) in times.items()))
    place.synchronize()
    dist.destroy_process_group()


def compare(team, other, same):
    """Against another run's file: bit by bit if it is of the same library, else within rounding."""
    for name in PROMPTS:
        mine, theirs = team.results.get("prompts", {}).get(name), other.get("prompts", {}).get(name)
        if not mine or not theirs:
            team.count(False, f"{name}: missing in one of both runs")
            continue
        bits = mine["sha256"] == theirs["sha256"]
        if same:
            team.count(bits, f"{name}: not the bits of the other run")
            continue
        off = [a - b for a, b in zip(mine["logits"], theirs["logits"])]
        error = (sum(x * x for x in off) / len(off)) ** 0.5
        # KEPT of them are a sample: its root mean square is within a few per cent of that of all.
        bound = 2 * SLACK * max(mine["one_device_error"], theirs["one_device_error"])
        team.count(error <= bound, f"{name}: off the other run by {error:.3g} (root mean square), allowed are {bound:.3g}")
        print(f"{name}: off the other run by {error:.2e}, {bound:.2e} allowed, the bits {'are the same' if bits else 'differ'}")
    if same:
        team.count(team.results.get("generated") == other.get("generated"), "other words than the other run's")
    for name, mine in team.results.get("ms", {}).items():
        if name in other.get("ms", {}):
            print(f"{name}: {mine:.2f} ms, the other run {other['ms'][name]:.2f} ({other['ms'][name] / mine:.2f} of this one's)")


def main():
    parser = base.parser(__doc__.splitlines()[0], compares=True)
    parser.add_argument("--same", metavar="FILE", help="expect the bits of another run, whose --json this is")
    parser.add_argument("--layers", type=int, default=0)
    parser.add_argument("--turns", type=int, default=20, help="forward passes to take the median of")
    options = parser.parse_args()
    for package in ("transformers", "accelerate"):  # from_pretrained wants accelerate for a tp_plan
        if importlib.util.find_spec(package) is None:
            base.base.skip(f"no {package} here")
    ranks = base.choose_ranks(options)
    if SIZES[options.backend][2] % ranks:
        base.base.skip(f"{SIZES[options.backend][2]} heads of keys do not divide by {ranks} ranks")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # the same bits on any stream
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    folder = tempfile.mkdtemp(prefix="tensor_parallel-")
    try:
        team = base.start(work, options, ranks, folder=folder)
        others = [(base.base.read_other(options, ranks), False)]
        options.against = options.same
        others.append((base.base.read_other(options, ranks), True))
        team.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for other, same in others:
        if other:
            compare(team, other, same)
    team.finish()


if __name__ == "__main__":
    main()
