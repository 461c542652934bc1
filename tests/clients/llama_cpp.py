"""llama.cpp in its mode "tensor", its own programs as they are: one process drives all GPUs, and every layer's sums go through NCCL.

`llama-results` gives logits, `llama-completion` a text drawn with a fixed seed, `llama-bench` tokens a second, of a model with random
weights that the package `gguf` writes. The reference is llama.cpp's own way without NCCL (GGML_CUDA_ALLREDUCE=none), which adds in
fp32. Tensors of fewer than 32768 numbers go to NCCL in fp32 too: two GPUs then give the same bits. Larger ones go in bf16, and are
held against another run's (`--against`). The programs have to be built with CUDA and NCCL and be on PATH.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile

import ranks as base

try:
    import gguf
    import numpy

    why_not = None
except ImportError as missing:
    why_not = f"no packages gguf and numpy here ({missing})"

PROGRAMS = ["llama-results", "llama-completion", "llama-bench"]
VOCABULARY, HEAD = 512, 128
SMALL, LARGE = "small", "large"
SHAPES = {SMALL: dict(hidden=1024, inner=2816, layers=4), LARGE: dict(hidden=2048, inner=5632, layers=16)}
EXACT_ROWS = 24  # of the small model's tokens at once: their sums stay below 32768 numbers
WORDS = "thequickbrownfoxjumpsoverthelazydogandrunsonandon"


def write_model(path, hidden, inner, layers):
    """A Llama of random weights in fp16, with a token for each byte."""
    random = numpy.random.default_rng(7).standard_normal(1 << 24, dtype=numpy.float32)
    place = 0

    def weights(rows, columns):
        nonlocal place
        place = (place + 1000003) % len(random)
        drawn = numpy.resize(numpy.roll(random, -place), rows * columns).reshape(rows, columns)
        return (drawn / numpy.sqrt(columns)).astype(numpy.float16)

    ones = numpy.ones(hidden, dtype=numpy.float32)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(hidden // HEAD)
    writer.add_head_count_kv(hidden // HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    bytes_at = 3
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + [f"<more{i}>" for i in range(VOCABULARY - bytes_at - 256)]
    kind = gguf.TokenType
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types([kind.UNKNOWN, kind.CONTROL, kind.CONTROL] + [kind.BYTE] * 256 + [kind.NORMAL] * (VOCABULARY - bytes_at - 256))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_space_prefix(False)
    writer.add_tensor("token_embd.weight", weights(VOCABULARY, hidden))
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", weights(VOCABULARY, hidden))
    for layer in range(layers):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", ones)
        for name, rows, columns in [(f"attn_{part}", hidden, hidden) for part in ("q", "k", "v", "output")] + [
            ("ffn_gate", inner, hidden), ("ffn_up", inner, hidden), ("ffn_down", hidden, inner)
        ]:
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights(rows, columns))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Ran:
    """A program that has run: its status, what it printed, the libraries named libnccl* that it had mapped."""

    def __init__(self, words, all_reduce):
        environment = dict(os.environ, GGML_CUDA_ALLREDUCE=all_reduce, GGML_CUDA_P2P="1")
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log:
            process = subprocess.Popen(words, env=environment, stdout=out, stderr=log, stdin=subprocess.DEVNULL)
            self.libraries = set()
            while True:
                try:
                    process.wait(0.05)
                    break
                except subprocess.TimeoutExpired:
                    self.libraries |= mapped(process.pid)
            self.status = process.returncode
            self.out, self.log = written(out), written(log)

    def tail(self):
        return " | ".join((self.log + self.out).strip().splitlines()[-4:])[-500:]


def written(file):
    file.seek(0)
    return file.read().decode(errors="backslashreplace")


def mapped(process):
    try:
        with open(f"/proc/{process}/maps") as maps:
            return set(re.findall(r"/\S*/libnccl[^/\s]*", maps.read()))
    except OSError:
        return set()


class Here:
    """The GPUs, the models, and the programs on them."""

    def __init__(self, rank, folder):
        self.rank, self.n, self.folder = rank, rank.options.ranks, folder
        self.models = {name: os.path.join(folder, f"{name}.gguf") for name in SHAPES}
        self.libraries = set()

    def run(self, program, model, all_reduce, *more):
        device = ("/" if program == "llama-bench" else ",").join(f"CUDA{index}" for index in range(self.n))
        words = [shutil.which(program), "-m", self.models[model], "-dev", device, "-sm", "tensor", "-ngl", "99", "-fa", "on", *more]
        ran = Ran(words, all_reduce)
        if self.rank.shared["log"]:
            with open(self.rank.shared["log"], "a") as log:
                log.write(f"{program} by {all_reduce}: {' '.join(words)}\n{ran.log}")
        self.rank.check(ran.status == 0, lambda: f"{program} by {all_reduce} ended with {ran.status}: {ran.tail()}")
        if all_reduce == "nccl":
            self.libraries |= ran.libraries
            without = re.search("NCCL (init failed|not compiled in|disabled).*", ran.log)
            self.rank.check(without is None, lambda: f"{program} does without: {without.group(0)}")
        return ran

    def logits(self, model, all_reduce, file, tokens, rows, check=False):
        """Of so many tokens, `rows` at a time: written to `file`, or held against what is there. Gives the normalised mean squared error."""
        prompt = (WORDS * 20)[: tokens - 1]  # the first token is the beginning's
        ran = self.run("llama-results", model, all_reduce, "-fit", "off", "-c", "1024", "-ub", str(rows), "-o", file, "-p", prompt, *(["--check"] if check else []))
        found = re.search(r"NMSE=(\S+)", ran.log + ran.out)
        if check:
            self.rank.check(found is not None, lambda: f"llama-results compared nothing: {ran.tail()}")
        return float(found.group(1)) if found else None

    def text(self, all_reduce):
        more = ["-fit", "off", "-c", "1024", "-ub", str(EXACT_ROWS), "-no-cnv", "--no-display-prompt", "--temp", "1", "--seed", "7", "--ignore-eos", "-n", "96", "-p", WORDS[:23]]
        return self.run("llama-completion", SMALL, all_reduce, *more).out

    def same(self, nmse, what):
        """The same bits on two GPUs; with more the order of a sum may differ, and llama-results' own bound holds."""
        self.rank.check(nmse is not None and (nmse == 0 if self.n == 2 else nmse <= 1e-6), f"{what}: normalised mean squared error {nmse}")


def difference(text, other, whose):
    at = len(os.path.commonprefix([text, other]))
    return f"the text departs from {whose} after {at} letters: {text[at:at + 40]!r}, not {other[at:at + 40]!r}"


def work(rank):
    other = base.read_other(rank.options, 1)
    with rank.group("models"):
        here = Here(rank, rank.shared["folder"])
        for name, shape in SHAPES.items():
            if not os.path.exists(here.models[name]):
                write_model(here.models[name] + ".new", **shape)
                os.rename(here.models[name] + ".new", here.models[name])
    rank.ready()
    file = lambda name: os.path.join(here.folder, name)
    with rank.group("logits, fp32"):
        here.logits(SMALL, "none", file("own.gguf"), 2 * EXACT_ROWS, EXACT_ROWS)
        here.same(here.logits(SMALL, "nccl", file("own.gguf"), 2 * EXACT_ROWS, EXACT_ROWS, check=True), "beside llama.cpp's own sums")
    with rank.group("logits, bf16"):
        kept = rank.shared["kept"]
        here.logits(SMALL, "nccl", kept, 512, 512)
        again = here.logits(SMALL, "nccl", kept, 512, 512, check=True)
        rank.check(again == 0, f"the same again: normalised mean squared error {again}")
        rank.result("logits", kept)
        if other:
            nmse = here.logits(SMALL, "nccl", other["logits"], 512, 512, check=True)
            rank.line(f"  logits of 512 tokens at once: normalised mean squared error {nmse:g} beside the other run's")
            if here.n == 2:
                here.same(nmse, "beside the other run's")
    with rank.group("text"):
        own, text = here.text("none"), here.text("nccl")
        rank.check(len(text) > 100, f"too short a text: {text!r}")
        rank.check(text == own or here.n > 2, lambda: difference(text, own, "llama.cpp's own"))
        rank.check(text == here.text("nccl"), "another text when asked again")
        rank.result("text", text)
        if other and here.n == 2:
            rank.check(text == other["text"], lambda: difference(text, other["text"], "the other run's"))
    with rank.group("speed"):
        ran = here.run("llama-bench", LARGE, "nccl", "-p", "512", "-n", "128", "-r", "3", "-o", "json")
        for test in json.loads(ran.out) if ran.status == 0 else []:
            name = f"{test['n_prompt']} tokens of a prompt" if test["n_prompt"] else f"{test['n_gen']} tokens one by one"
            rank.line(f"  llama-bench, {name}: {test['avg_ts']:.1f} tokens/s, +- {test['stddev_ts']:.1f}")
            rank.result(name, test["avg_ts"])
    with rank.group("library"):
        rank.check(len(here.libraries) > 0, "no NCCL was mapped")
        rank.result("library", sorted(here.libraries))
        rank.line(f"llama.cpp on {here.n} GPUs: {' '.join(sorted(here.libraries))}")


def count_gpus(options):
    for program in PROGRAMS:
        if not shutil.which(program):
            base.skip(f"no {program} on PATH: llama.cpp built with GGML_CUDA=ON, and NCCL found")
    listed = subprocess.run(["llama-bench", "--list-devices"], capture_output=True, text=True)
    gpus = len(re.findall(r"^\s*CUDA\d+:", listed.stdout + listed.stderr, re.MULTILINE))
    ranks = options.ranks or gpus
    if ranks < 2 or ranks > gpus:
        base.skip(f"{max(ranks, 2)} ranks want as many GPUs, and llama.cpp sees {gpus}")
    return ranks


def main():
    parser = base.parser(__doc__.splitlines()[0], compares=True)
    parser.add_argument("--models", metavar="FOLDER", help="where the models, 1.8 GB, are written and found again (default: beside the file of --json, else nowhere for long)")
    options = parser.parse_args()
    if why_not:
        base.skip(why_not)
    options.ranks = count_gpus(options)
    with tempfile.TemporaryDirectory() as passing:
        beside = os.path.join(os.path.dirname(os.path.abspath(options.json)), "models") if options.json else passing
        folder = options.models or beside
        os.makedirs(folder, exist_ok=True)
        kept = f"{options.json}.gguf" if options.json else os.path.join(passing, "kept.gguf")
        log = f"{options.json}.programs" if options.json else None  # what llama.cpp said
        team = base.Team(work, 1, options, {"folder": folder, "kept": os.path.abspath(kept), "log": log})
        team.wait()
    team.finish()


if __name__ == "__main__":
    main()
