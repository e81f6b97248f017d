"""A BERT encoder as an ONNX graph of ONNX Runtime's fused operators, from safetensors.

The graph is the one that `onnxruntime.transformers.optimizer` leaves of PyTorch's export: embedding with norm, attention
with its three projections, residual with norm and bias, GELU with bias. It is put together directly, so that no PyTorch
is needed. There is no mask, because the benchmark's sequences of one run have one length: that is ONNX Runtime's fastest
case, and the encoder that it is compared with does not pad either.
"""

import json
import pathlib

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

FUSED = "com.microsoft"


def build(directory: pathlib.Path, target: pathlib.Path) -> None:
    """Writes the model in `directory` to `target`: int32 `ids` [batch, length] to f32 `states`."""
    config = json.loads((directory / "config.json").read_text())
    tensors = load_file(directory / "model.safetensors")
    nodes, constants = [], []

    def constant(name: str, value: numpy.ndarray) -> str:
        constants.append(numpy_helper.from_array(numpy.ascontiguousarray(value), name))
        return name

    def node(kind: str, inputs: list[str], output: str, domain: str = FUSED, **attributes) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], domain=domain, name=output, **attributes))
        return output

    def read(name: str) -> str:
        return constant(name, tensors[name])

    def linear(name: str) -> str:
        return constant(f"{name}.weight", tensors[f"{name}.weight"].T)

    epsilon = config["layer_norm_eps"]
    embeddings = [f"embeddings.{part}_embeddings.weight" for part in ("word", "position", "token_type")]
    norm = ["embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"]
    # The second input is the token types: absent, all are of the first type.
    nodes.append(helper.make_node(
        "EmbedLayerNormalization", ["ids", "types", *map(read, embeddings + norm)], ["embedded", "mask_index"],
        domain=FUSED, name="embedded", epsilon=epsilon))
    states = "embedded"
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{index}"
        parts = [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")]
        weight = numpy.concatenate([tensors[f"{part}.weight"].T for part in parts], axis=1)
        bias = numpy.concatenate([tensors[f"{part}.bias"] for part in parts])
        projection = [constant(f"{layer}.projection.weight", weight), constant(f"{layer}.projection.bias", bias)]
        attended = node("Attention", [states, *projection], f"{layer}.attended",
                        num_heads=config["num_attention_heads"])

        def residual(name: str, inputs: str, states: str, output: str) -> str:
            product = node("MatMul", [inputs, linear(f"{name}.dense")], f"{output}.product", domain="")
            norm = [read(f"{name}.LayerNorm.weight"), read(f"{name}.LayerNorm.bias"), read(f"{name}.dense.bias")]
            return node("SkipLayerNormalization", [product, states, *norm], output, epsilon=epsilon)

        states = residual(f"{layer}.attention.output", attended, states, f"{layer}.attention")
        expanded = node("MatMul", [states, linear(f"{layer}.intermediate.dense")], f"{layer}.expanded", domain="")
        active = node("BiasGelu", [expanded, read(f"{layer}.intermediate.dense.bias")], f"{layer}.active")
        states = residual(f"{layer}.output", active, states, f"{layer}.states")

    shape = ["batch", "length"]
    graph = helper.make_graph(
        nodes, "encoder",
        [helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name in ("ids", "types")],
        [helper.make_tensor_value_info(states, TensorProto.FLOAT, [*shape, config["hidden_size"]])],
        constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), target)
