#!/usr/bin/env python3
"""Tiny encoders with random weights, and what PyTorch and transformers compute with them.

    pip install -r ../tests/golden/requirements.txt
    python3 make_encoder_reference.py

writes one directory per model beside `../tests/encoder`: a model directory as Hugging Face publishes it,
and `reference.json`. `nomic` has nomic-embed-text's architecture (rotary positions, SwiGLU, no biases), its
reference the unit vector of the mean of the last states of each text. `cross` is a BERT that reads two texts
together and scores them, as cross-encoders for re-ranking do; its reference is the logit of each pair.

Norms and biases get random values too, because a fresh model's ones and zeros would hide a mistake.
"""

import json
import pathlib

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    NomicBertConfig,
    NomicBertModel,
    PreTrainedTokenizerFast,
)

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "encoder"
VOCABULARY = 320

TEXTS = [
    "",
    "Hello, world.",
    "The escrow refunds the requester when no operator answers before the deadline.",
    "Zażółć gęślą jaźń, 天地玄黃 \U0001f980",
    "An operator signs the result; the escrow pays the split. " * 9,
    "refund " * 40,
]

PAIRS = [
    ["Who may refund?", "The escrow refunds the requester when no operator answers before the deadline."],
    ["Who may refund?", "An operator signs the result; the escrow pays the split."],
    ["Who may refund?", ""],
    ["", "天地玄黃 is not in the vocabulary"],
    ["the split", "the split " * 30],
    ["a question that is longer than what it is about, which happens " * 3, "the split"],
]


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    texts = TEXTS + [text for pair in PAIRS for text in pair]
    made.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return made


def randomize(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.empty(parameter.shape).normal_(0.0, 0.1, generator=generator)
            is_scale = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(values + 1.0 if is_scale else values)


def write(name: str, model: torch.nn.Module, tokens: Tokenizer, reference: dict) -> None:
    directory = OUT / name
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    PreTrainedTokenizerFast(tokenizer_object=tokens).backend_tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "reference.json").write_text(json.dumps(reference, ensure_ascii=False, indent=1) + "\n")


def nomic(tokens: Tokenizer) -> None:
    config = NomicBertConfig(
        vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=192,
        max_position_embeddings=512, rope_parameters={"rope_type": "default", "rope_theta": 1000.0})
    model = NomicBertModel(config, add_pooling_layer=False).eval()
    randomize(model)
    vectors = []
    for text in TEXTS:
        ids = torch.tensor([tokens.encode(text).ids])
        with torch.no_grad():
            mean = model(input_ids=ids).last_hidden_state.mean(dim=1)
        vectors.append(torch.nn.functional.normalize(mean)[0].tolist())
    ids = [tokens.encode(text).ids for text in TEXTS]
    write("nomic", model, tokens, {"texts": TEXTS, "ids": ids, "vectors": vectors})


def cross(tokens: Tokenizer) -> None:
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=192,
        max_position_embeddings=256, num_labels=1)
    model = BertForSequenceClassification(config).eval()
    randomize(model)
    logits = []
    encoded = [tokens.encode(*pair) for pair in PAIRS]
    for encoding in encoded:
        with torch.no_grad():
            logits.append(model(
                input_ids=torch.tensor([encoding.ids]), token_type_ids=torch.tensor([encoding.type_ids]),
            ).logits.item())
    ids = [encoding.ids for encoding in encoded]
    types = [encoding.type_ids for encoding in encoded]
    write("cross", model, tokens, {"pairs": PAIRS, "ids": ids, "types": types, "logits": logits})


def main() -> None:
    torch.set_num_threads(1)
    nomic(tokenizer())
    cross(tokenizer())


main()
