"""Decode and prefill speed of a model, beside what the machine can do at best.

    python benchmarks/random_model.py 2b4t /tmp/2b4t.gguf
    python benchmarks/speed.py /tmp/2b4t.gguf --threads 1 2

Decoding is bound by memory: its limit is the measured read bandwidth over the bytes that a token
needs (weights, output head, keys and values). Prefill is bound by integer multiply-accumulates:
its limit is the measured peak of the instruction that the kernels use. Both limits are measured
before and after the model, because shared machines drift; the better one counts.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import bitnet
from bitnet.codegen import Buffer, Function, Module, Target, find_target, jit
from bitnet.codegen import types as t
from bitnet.program.memory import address, allocate, ffi

_READ_BYTES = 1 << 28
_DOT_ROUNDS = 20_000_000
_ACCUMULATORS = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a model file; default the bundled model")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--target")
    parser.add_argument("--prompt", type=int, default=512, help="prompt tokens")
    parser.add_argument("--new", type=int, default=64, help="tokens to decode")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    for threads in args.threads:
        report(args.model, find_target(args.target), threads, args.prompt, args.new, args.repeat)


def report(
    path: str | None, target: Target, threads: int, prompt: int, new: int, repeat: int
) -> None:
    bandwidth, peak = machine_limits(target, threads)
    start = time.perf_counter()
    model = bitnet.load(path, target=target.name, threads=threads)
    loaded = time.perf_counter() - start
    prefill, decode = measure(model, prompt, new, repeat)
    model.close()
    again = machine_limits(target, threads)
    bandwidth, peak = max(bandwidth, again[0]), max(peak, again[1])
    bytes_per_token, macs = cost(model.config, prompt + new // 2)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
    print(
        f"{target.name}, {threads} threads, load {loaded:.2f} s, peak memory {memory / 1e6:.0f} MB"
    )
    print(f"  read bandwidth {bandwidth / 1e9:.1f} GB/s, dot product peak {peak / 1e9:.0f} GMAC/s")
    _line("decode", f"tg{new}", decode, bandwidth / bytes_per_token)
    _line("prefill", f"pp{prompt}", prefill, peak / macs)


def _line(name: str, test: str, speeds: list[float], limit: float) -> None:
    median = statistics.median(speeds)
    print(
        f"  {name:8}{test:8}{median:8.1f} tokens/s ({min(speeds):.1f} to {max(speeds):.1f}), "
        f"{median / limit:.0%} of the limit {limit:.1f}"
    )


def measure(
    model: bitnet.Model, prompt: int, new: int, repeat: int
) -> tuple[list[float], list[float]]:
    """Tokens per second of prefill and of decoding, one of each per repetition."""
    ids = np.random.default_rng(0).integers(3, model.config.vocab_size, prompt).tolist()
    prefill, decode = [], []
    for i in range(repeat + 1):
        generation = model.start(ids, max_new_tokens=new, temperature=0)
        for _ in generation:
            pass
        if i:  # the first one warms up
            prefill.append(generation.timings.prefill_tokens_per_s)
            decode.append(generation.timings.decode_tokens_per_s)
    return prefill, decode


def cost(spec: bitnet.ModelSpec, position: int) -> tuple[float, float]:
    """Bytes read to decode a token at `position`, and multiply-accumulates to prefill one."""
    weights = sum(rows * columns for rows, columns in spec.ternary_shapes().values())
    head = spec.vocab_size * spec.hidden_size * 2
    kv = spec.n_layers * 2 * spec.kv_size * 2 * position
    return weights / 4 + head + kv, float(weights)


def machine_limits(target: Target, threads: int) -> tuple[float, float]:
    """Read bandwidth in bytes/s and integer dot product peak in MAC/s, of `threads` threads."""
    module = Module(target)
    module.function("read", [t.ptr, t.i64, t.ptr], _read, exported=True)
    module.function("dots", [t.i64, t.ptr], _dots, exported=True)
    library = jit.load(module, ["read", "dots"])
    read = ffi.cast("void (*)(void *, int64_t, void *)", library.address("read"))
    dots = ffi.cast("void (*)(int64_t, void *)", library.address("dots"))
    data = [allocate(_READ_BYTES, np.uint8) for _ in range(threads)]
    for part in data:
        part[:] = 1
    out = [allocate(64, np.uint8) for _ in range(threads)]
    rounds = _DOT_ROUNDS if target.name.startswith("avx") else _DOT_ROUNDS // 20
    with ThreadPoolExecutor(threads) as pool:
        seconds = _best(
            lambda i: read(address(data[i]), _READ_BYTES, address(out[i])), pool, threads
        )
        bandwidth = threads * _READ_BYTES / seconds
        seconds = _best(lambda i: dots(rounds, address(out[i])), pool, threads)
    return bandwidth, threads * rounds * _ACCUMULATORS * 64 / seconds


def _best(work: Callable[[int], None], pool: ThreadPoolExecutor, threads: int) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        list(pool.map(work, range(threads)))
        times.append(time.perf_counter() - start)
    return min(times)


def _read(k: Function) -> None:
    """read(data, n, out): adds up n bytes, as fast as they come."""
    n = k.args[1]
    data = Buffer(k, k.args[0], t.i32, n // 4, "data")
    acc = [k.var(t.vec(t.i32, 16)) for _ in range(8)]
    with k.loop(0, n // 4, 8 * 16) as i:
        for j, total in enumerate(acc):
            total.set(total.get() + data.load(i + 16 * j, 16))
    result = acc[0].get()
    for total in acc[1:]:
        result = result + total.get()
    Buffer(k, k.args[2], t.i32, 16, "out").store(0, result)


def _dots(k: Function) -> None:
    """dots(n, out): n rounds of dot products that touch no memory."""
    # Codes and starts that LLVM cannot know or merge, or it would simplify the products.
    codes = Buffer(k, k.args[1], t.i8, 64, "out").load(0, 64) & 3
    start = k.iota(t.vec(t.i32, 16))
    acc = [k.var(start.type, start + (i + 1)) for i in range(_ACCUMULATORS)]
    with k.loop(0, k.args[0]):
        for total in acc:
            # The accumulator is also an operand, or LLVM would fold the loop away.
            total.set(k.target.dot4(k, total.get(), codes, total.get().bitcast(codes.type)))
    result = acc[0].get()
    for total in acc[1:]:
        result = result + total.get()
    Buffer(k, k.args[1], t.i32, 16, "out").store(0, result)


if __name__ == "__main__":
    main()
