#!/usr/bin/env python3
"""Runs ONNX Runtime for `auspex-bench inference`, which asks on standard input, one JSON document a line.

    peer.py MODEL_DIR WORK_DIR

{"model": "f32" | "int8", "ids": [[...], ...]} runs one batch of equal lengths and answers with its seconds and the unit
vector of every sequence (mean of the last states, as sentence-transformers pools).
{"sgemm": N} multiplies two N by N matrices in f32 and answers with the seconds.
"""

import json
import os
import pathlib
import sys
import time

import numpy
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

import model


def session(path: pathlib.Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def sessions(directory: pathlib.Path, work: pathlib.Path) -> dict[str, onnxruntime.InferenceSession]:
    work.mkdir(parents=True, exist_ok=True)
    plain, quantized = work / "f32.onnx", work / "int8.onnx"
    if not plain.exists() or not quantized.exists():
        model.build(directory, plain)
        # Signed weights: their kernels are the faster ones on a CPU without dot-product instructions.
        # Shape inference does not know the fused operators, so it is told that everything else is f32.
        quantize_dynamic(plain, quantized, weight_type=QuantType.QInt8,
                         extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT})
    return {"f32": session(plain), "int8": session(quantized)}


def encode(run: onnxruntime.InferenceSession, ids: list[list[int]]) -> dict:
    inputs = numpy.array(ids, dtype=numpy.int32)
    feeds = {"ids": inputs, "types": numpy.zeros_like(inputs)}
    started = time.perf_counter()
    states = run.run(None, feeds)[0]
    seconds = time.perf_counter() - started
    vectors = states.astype(numpy.float64).mean(axis=1)
    vectors /= numpy.linalg.norm(vectors, axis=1, keepdims=True)
    return {"seconds": seconds, "vectors": vectors.tolist()}


def sgemm(size: int) -> dict:
    left, right = numpy.random.default_rng(1).random((2, size, size), dtype=numpy.float32)
    started = time.perf_counter()
    left @ right
    return {"seconds": time.perf_counter() - started}


def main() -> None:
    models = sessions(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    print(json.dumps({"version": f"ONNX Runtime {onnxruntime.__version__}"}), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        if "sgemm" in question:
            answer = sgemm(question["sgemm"])
        else:
            answer = encode(models[question["model"]], question["ids"])
        print(json.dumps(answer), flush=True)


main()
