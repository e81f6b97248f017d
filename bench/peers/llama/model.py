"""A model of the shape of Qwen2.5-0.5B with random weights: speed does not depend on what they are.

It is written twice, as a Hugging Face directory and as GGUF files, from the same numbers.
"""

import json
import pathlib
import shutil

import gguf
import numpy
from safetensors.numpy import save_file

HIDDEN, INNER, LAYERS, HEADS, KEY_HEADS, HEAD, VOCABULARY = 896, 4864, 24, 14, 2, 64, 151_936
SIZE = 0.02

QUANTIZATIONS = {
    "int8": gguf.GGMLQuantizationType.Q8_0,
    "int4": gguf.GGMLQuantizationType.Q4_0,
    "f16": gguf.GGMLQuantizationType.F16,
}

CONFIG = {
    "model_type": "qwen2", "hidden_act": "silu", "hidden_size": HIDDEN, "intermediate_size": INNER,
    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KEY_HEADS,
    "vocab_size": VOCABULARY, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    "max_position_embeddings": 32_768, "tie_word_embeddings": True,
}

# Hugging Face's names with llama.cpp's.
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def tensors():
    """Name in both worlds and values, one after the other."""
    random = numpy.random.default_rng(5)

    def matrix(*shape):
        return (random.standard_normal(shape, dtype=numpy.float32) * SIZE).astype(numpy.float16)

    keys = KEY_HEADS * HEAD
    yield "model.embed_tokens.weight", "token_embd.weight", matrix(VOCABULARY, HIDDEN)
    yield "model.norm.weight", "output_norm.weight", numpy.ones(HIDDEN, numpy.float16)
    for layer in range(LAYERS):
        shapes = {
            "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (keys, HIDDEN),
            "self_attn.v_proj": (keys, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
            "mlp.gate_proj": (INNER, HIDDEN), "mlp.up_proj": (INNER, HIDDEN),
            "mlp.down_proj": (HIDDEN, INNER),
        }
        for name, shape in shapes.items():
            own, other = f"model.layers.{layer}.{name}", f"blk.{layer}.{NAMES[name]}"
            yield f"{own}.weight", f"{other}.weight", matrix(*shape)
            if name[-6:] in ("q_proj", "k_proj", "v_proj"):
                yield f"{own}.bias", f"{other}.bias", matrix(shape[0])
        for name in ("input_layernorm", "post_attention_layernorm"):
            own, other = f"model.layers.{layer}.{name}", f"blk.{layer}.{NAMES[name]}"
            yield f"{own}.weight", f"{other}.weight", numpy.ones(HIDDEN, numpy.float16)


def make(directory: pathlib.Path, storages):
    """Writes what is missing."""
    done = directory / "done.json"
    if done.exists() and json.loads(done.read_text()) == storages:
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    everything = list(tensors())
    save_file({own: values for own, _, values in everything}, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(CONFIG))
    # Which text a token is makes no difference to the time.
    tokenizer = pathlib.Path("inference/tests/decoder/qwen2/tokenizer.json")
    shutil.copy(tokenizer, directory / "tokenizer.json")
    for storage in storages:
        write_gguf(directory / f"{storage}.gguf", everything, QUANTIZATIONS[storage])
    done.write_text(json.dumps(storages))


def write_gguf(path, everything, quantization):
    writer = gguf.GGUFWriter(str(path), "qwen2")
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("no_vocab")
    for _, name, values in everything:
        if values.ndim == 1:
            writer.add_tensor(name, values.astype(numpy.float32))
        elif quantization == gguf.GGMLQuantizationType.F16:
            writer.add_tensor(name, values)
        else:
            # As llama.cpp does it, the embedding, which is the head too, has 8 bits at least.
            kind = gguf.GGMLQuantizationType.Q8_0 if name == "token_embd.weight" else quantization
            packed = gguf.quants.quantize(values.astype(numpy.float32), kind)
            writer.add_tensor(name, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
