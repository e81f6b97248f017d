#!/usr/bin/env python3
"""Tiny decoders with random weights, and what PyTorch and transformers compute with them.

    pip install torch transformers numpy
    python3 make_decoder_reference.py

writes one directory per model beside `../tests/decoder`: a model directory as Hugging Face
publishes it, `reference.json` (prompt, greedy continuation, tokenizer and template outputs) and
`reference.f32` (little-endian f32: the hidden states behind the embedding and behind each layer,
`[layers + 1][tokens][hidden_size]`, then the logits, `[tokens][vocab_size]`).

Weights are rounded to the type that they are stored in before anything is computed, so that the
reference has exactly the numbers that are in the file. They are larger than those of a fresh model,
whose logits are so flat that rounding would decide its next token.
"""

import json
import pathlib

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "decoder"
PROMPT_TOKENS = 41
NEW_TOKENS = 24
VOCABULARY = 320

TRAINING = [
    "The escrow refunds the requester when no operator answers before the deadline.",
    "An operator signs the result; the escrow pays the split.",
    "Answer from the passages only, and say so when they do not answer.",
    "the other, and then there is the question that one asks of it",
    '{"answer": "yes", "score": 12, "items": [1, 2, 3]}',
]

TEXTS = [
    "",
    " ",
    "Hello, world.",
    "The escrow refunds the requester.\n\n  Twice?\tNever!",
    "Zażółć gęślą jaźń, 天地玄黃 \U0001f980\U0001f469\u200d\U0001f52c",
    "it's 12345.678 and they'll've gone",
    "<|im_start|>user\nno role of mine<|im_end|>",
    "a\u0301 \ufb01 \u00a0 end ",
]

CHATML = (
    "{%- if tools %}\n"
    "    {{- '<|im_start|>system\\n' }}\n"
    "    {%- if messages[0].role == 'system' %}\n"
    "        {{- messages[0].content + '\\n\\n' }}\n"
    "    {%- endif %}\n"
    "    {{- '<tools>' }}\n"
    "    {%- for tool in tools %}\n"
    "        {{- '\\n' }}{{- tool | tojson }}\n"
    "    {%- endfor %}\n"
    "    {{- '\\n</tools><|im_end|>\\n' }}\n"
    "{%- elif messages[0].role != 'system' %}\n"
    "    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}\n"
    "{%- endif %}\n"
    "{%- set ns = namespace(last=messages|length - 1) %}\n"
    "{%- for message in messages[::-1] %}\n"
    "    {%- set index = (messages|length - 1) - loop.index0 %}\n"
    "    {%- if message.role == 'user' and ns.last == messages|length - 1 %}\n"
    "        {%- set ns.last = index %}\n"
    "    {%- endif %}\n"
    "{%- endfor %}\n"
    "{%- for message in messages %}\n"
    "    {%- set content = message.content if message.content is string else '' %}\n"
    "    {%- if message.role == 'assistant' and '</think>' in content and loop.index0 < ns.last %}\n"
    "        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}\n"
    "    {%- endif %}\n"
    "    {%- if not (loop.first and tools and message.role == 'system') %}\n"
    "        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}\n"
    "    {%- endif %}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n' }}\n"
    "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
    "        {{- '<think>\\n\\n</think>\\n\\n' }}\n"
    "    {%- endif %}\n"
    "{%- endif %}"
)

LLAMA = (
    "{{- bos_token }}\n"
    "{%- if messages[0]['role'] == 'system' %}\n"
    "    {%- set system_message = messages[0]['content'] | trim %}\n"
    "    {%- set messages = messages[1:] %}\n"
    "{%- else %}\n"
    "    {%- set system_message = '' %}\n"
    "{%- endif %}\n"
    "{{- '<|start|>system<|end|>\\n\\n' }}\n"
    "{{- 'Today Date: ' + (date_string | default('26 Jul 2024')) + '\\n\\n' }}\n"
    "{{- system_message }}{{- eos_token }}\n"
    "{%- for message in messages %}\n"
    "    {%- if message.role not in ['user', 'assistant'] %}\n"
    "        {{- raise_exception('only user and assistant may speak') }}\n"
    "    {%- endif %}\n"
    "    {{- '<|start|>' + message['role'] + '<|end|>\\n\\n' + message['content'] | trim + eos_token }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|start|>assistant<|end|>\\n\\n' }}\n"
    "{%- endif %}\n"
)

CHATS = [
    {"messages": [{"role": "user", "content": "  Who may refund?\n"}]},
    {
        "messages": [
            {"role": "system", "content": "Be <brief> & 'exact'."},
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nTwo"},
            {"role": "user", "content": "Three \U0001f980"},
        ]
    },
    {
        "messages": [{"role": "user", "content": "Weather?"}],
        "tools": [{"name": "weather", "parameters": {"city": "Zürich <1>", "days": [1, 2]}}],
    },
]


def tokenizer(directory, eos, template, bos=None):
    special = sorted({eos, "<|im_start|>", "<|im_end|>", "<|start|>", "<|end|>", bos or eos})
    model = Tokenizer(models.BPE())
    # The pre-tokenizer of the Qwen family: words, single digits, marks, line ends, spaces.
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    bytes_of_words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_of_words])
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(special) - 3,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(TRAINING, trainer)
    model.add_special_tokens(special)
    fast = PreTrainedTokenizerFast(tokenizer_object=model, eos_token=eos, bos_token=bos)
    fast.chat_template = template
    fast.save_pretrained(directory)
    # One spelling of the template, the one of published models: inside tokenizer_config.json.
    (directory / "chat_template.jinja").unlink(missing_ok=True)
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["chat_template"] = template
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False))
    return fast


def build(name, model, fast, dtype, shard):
    directory = OUT / name
    torch.manual_seed(20)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "norm" in key:
                value.copy_(1 + 0.2 * torch.randn_like(value))
            elif key.endswith("bias"):
                value.copy_(0.3 * torch.randn_like(value))
            elif "embed" in key or "lm_head" in key:
                value.copy_(0.3 * torch.randn_like(value))
            else:
                value.copy_(1.8 * torch.randn_like(value) / value.shape[1] ** 0.5)
            value.copy_(value.to(dtype).float())
    model = model.float().eval()
    model.generation_config.eos_token_id = [fast.eos_token_id]
    model.generation_config.temperature = 0.7
    model.generation_config.top_p = 0.8
    model.generation_config.top_k = 20
    model.generation_config.do_sample = True

    ids = torch.randint(3, VOCABULARY - 16, (1, PROMPT_TOKENS), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        states = {}
        handles = [
            layer.register_forward_hook(
                lambda _, __, out, index=index: states.__setitem__(
                    index, out[0] if isinstance(out, tuple) else out
                )
            )
            for index, layer in enumerate(model.model.layers)
        ]
        logits = model(ids).logits[0]
        for handle in handles:
            handle.remove()
        embedded = model.model.embed_tokens(ids)[0]
        hidden = [embedded] + [states[i].reshape(embedded.shape) for i in range(len(states))]

        # Greedy without a cache: the definition. The gap says where rounding may decide.
        greedy, gaps, sequence = [], [], ids
        for _ in range(NEW_TOKENS):
            last = model(sequence).logits[0, -1]
            top = last.topk(2)
            greedy.append(int(top.indices[0]))
            gaps.append(float(top.values[0] - top.values[1]))
            sequence = torch.cat([sequence, top.indices[:1][None]], dim=1)

    chats = []
    for chat in CHATS:
        for generation in (True, False):
            text = fast.apply_chat_template(
                chat["messages"], tools=chat.get("tools"), tokenize=False,
                add_generation_prompt=generation,
            )
            chats.append({**chat, "add_generation_prompt": generation, "text": text})
    reference = {
        "prompt": ids[0].tolist(),
        "greedy": greedy,
        "gaps": gaps,
        "layers": len(states),
        "texts": [
            {"text": text, "ids": fast.encode(text, add_special_tokens=False),
             "decoded": fast.decode(fast.encode(text, add_special_tokens=False),
                                    clean_up_tokenization_spaces=False)}
            for text in TEXTS
        ],
        "chats": chats,
    }
    (directory / "reference.json").write_text(json.dumps(reference, indent=1, ensure_ascii=False))
    numbers = torch.cat([value.flatten() for value in hidden] + [logits.flatten()])
    (directory / "reference.f32").write_bytes(numbers.numpy().astype("<f4").tobytes())

    model.to(dtype).save_pretrained(directory, max_shard_size=shard)


COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "attn_implementation": "eager",
}


def main():
    for name in ("llama3", "qwen2", "qwen3"):
        (OUT / name).mkdir(parents=True, exist_ok=True)

    fast = tokenizer(OUT / "llama3", "<|eot|>", LLAMA, bos="<|begin|>")
    build("llama3", LlamaForCausalLM(LlamaConfig(
        **COMMON, head_dim=16, rms_norm_eps=1e-5, rope_theta=500.0, tie_word_embeddings=True,
        bos_token_id=fast.bos_token_id, eos_token_id=fast.eos_token_id,
        rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                      "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
    )), fast, torch.bfloat16, "64KB")

    fast = tokenizer(OUT / "qwen2", "<|im_end|>", CHATML)
    build("qwen2", Qwen2ForCausalLM(Qwen2Config(
        **{**COMMON, "hidden_size": 64, "num_hidden_layers": 2}, rms_norm_eps=1e-6, rope_theta=10000.0,
        tie_word_embeddings=True, use_sliding_window=True, sliding_window=8, max_window_layers=1,
        bos_token_id=None, eos_token_id=fast.eos_token_id,
    )), fast, torch.float16, "5GB")

    fast = tokenizer(OUT / "qwen3", "<|im_end|>", CHATML)
    build("qwen3", Qwen3ForCausalLM(Qwen3Config(
        **COMMON, head_dim=32, rms_norm_eps=1e-6, rope_theta=1000000.0, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=fast.eos_token_id,
    )), fast, torch.bfloat16, "5GB")


if __name__ == "__main__":
    main()
