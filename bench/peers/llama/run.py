"""Measures `auspex model bench` and llama.cpp in turns, on the same random weights.

    python bench/peers/llama/run.py AUSPEX [--rounds N]

prints a table and writes target/bench/decoder.json.
"""

import argparse
import concurrent.futures
import ctypes
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import llama_cpp
import numpy

import model

DIRECTORY = pathlib.Path("target/bench/decoder-model")
THREADS = 2
PROMPT, OUTPUT = 512, 48
BARS = {"int8": 1.0}
# Least share of the machine's reading of memory, by storage.
BANDWIDTH_BARS = {"int8": 0.75}


class Llama:
    """llama.cpp with one of its files."""

    def __init__(self, path):
        parameters = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        assert self.model, path
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = 1024
        parameters.n_batch = parameters.n_ubatch = PROMPT
        parameters.n_threads = parameters.n_threads_batch = THREADS
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        assert self.context, path

    def decode(self, tokens):
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        batch = llama_cpp.llama_batch_get_one(array, len(tokens))
        assert llama_cpp.llama_decode(self.context, batch) == 0
        llama_cpp.llama_synchronize(self.context)

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def measure(self):
        """Tokens per second of reading and of writing."""
        self.clear()
        started = time.perf_counter()
        self.decode([index * 7919 % model.VOCABULARY for index in range(PROMPT)])
        reading = PROMPT / (time.perf_counter() - started)
        self.clear()
        self.decode(list(range(16)))
        started = time.perf_counter()
        for index in range(OUTPUT):
            self.decode([index * 7919 % model.VOCABULARY])
        return reading, OUTPUT / (time.perf_counter() - started)

    def free(self):
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


def own(auspex, storage):
    command = [
        auspex, "--json", "model", "bench", "--decoder-dir", str(DIRECTORY), "--weights", storage,
        "--prompt-tokens", str(PROMPT), "--output-tokens", str(OUTPUT), "--rounds", "3",
        "--cache-tokens", "2048",
    ]
    environment = {**os.environ, "RAYON_NUM_THREADS": str(THREADS)}
    result = subprocess.run(command, capture_output=True, env=environment, check=True)
    figures = json.loads(result.stdout)
    return figures["promptTokensPerSecond"], figures["outputTokensPerSecond"], figures["weightBytes"]


def bandwidth():
    """GB/s of two threads that read memory, the best of some tries."""
    arrays = [numpy.ones(32 * 1024 * 1024, numpy.int64) for _ in range(THREADS)]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as threads:
        best = 0.0
        for _ in range(5):
            started = time.perf_counter()
            list(threads.map(numpy.max, arrays))
            best = max(best, sum(a.nbytes for a in arrays) / (time.perf_counter() - started) / 1e9)
    return best


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    name = next(line.split(":")[1].strip() for line in text.splitlines() if "model name" in line)
    load = os.getloadavg()[0]
    return f"{name}, {os.cpu_count()} cores, load {load:.1f} when the run began, debug profile"


def beside_peer(name, value, unit, peer, ratio, bar):
    met = None if bar is None else ratio >= bar
    return {"name": name, "value": value, "unit": unit, "bar": bar, "met": met, "peer": peer,
            "ratio": ratio}


def progress(line):
    print(line, file=sys.stderr, flush=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("auspex")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--weights", default="int8,int4,f16")
    arguments = arguments.parse_args()
    where = machine()
    storages = arguments.weights.split(",")
    progress(f"random weights in {DIRECTORY}, unless they are there from before")
    model.make(DIRECTORY, storages)
    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()

    rows = []
    every_read = []
    for storage in storages:
        mine, theirs, reads = [], [], []
        for turn in range(arguments.rounds):
            progress(f"{storage}, turn {turn + 1} of {arguments.rounds}: Auspex")
            mine.append(own(arguments.auspex, storage))
            progress(f"{storage}, turn {turn + 1} of {arguments.rounds}: llama.cpp")
            peer = Llama(DIRECTORY / f"{storage}.gguf")
            peer.measure()
            theirs.append(peer.measure())
            peer.free()
            reads.append(bandwidth())
        every_read += reads
        name = f"Qwen2.5-0.5B shape, {storage}"
        for index, what in enumerate((f"reading {PROMPT} tokens", "writing, one output")):
            value = statistics.median(row[index] for row in mine)
            peer = statistics.median(row[index] for row in theirs)
            beside = f"llama.cpp {llama_cpp.__version__} (binding) with {peer:.2f} tokens/s"
            rows.append(beside_peer(f"{name}: {what}", value, "tokens/s", beside, value / peer,
                                    BARS.get(storage)))
        rate = statistics.median(row[1] for row in mine) * mine[0][2] / 1e9
        read = statistics.median(reads)
        rows.append(beside_peer(f"{name}: weights read while writing", rate, "GB/s",
                                f"plain reading of memory with {read:.2f} GB/s", rate / read,
                                BANDWIDTH_BARS.get(storage)))
    rows.append({"name": "machine: reading memory", "value": statistics.median(every_read),
                 "unit": "GB/s", "bar": None, "met": None, "peer": None, "ratio": None})
    report = {"machine": where, "rows": rows}
    pathlib.Path("target/bench/decoder.json").write_text(json.dumps(report, indent=2))
    print(where)
    for row in rows:
        beside = f"{row['ratio']:.2f} times {row['peer']}" if row["peer"] else ""
        if row["bar"] is not None:
            beside += f"; bar {row['bar']}: {'met' if row['met'] else 'NOT met'}"
        print(f"{row['name']:<55} {row['value']:>9.2f} {row['unit']:<9} {beside}")


if __name__ == "__main__":
    main()
