#!/usr/bin/env python3
"""Reference vectors of all-MiniLM-L6-v2, computed by PyTorch in f32 on the CPU.

    pip install torch transformers numpy
    python3 make_golden.py MODEL_DIR

writes texts.json and vectors.f32 (little-endian f32, 384 per text) beside this script, and
../../src/self_test.json. The computation is that of sentence-transformers: the model's own
tokenizer cut at 256 tokens, the mean of the last hidden states over the attention mask, L2 norm.
"""

import hashlib
import json
import pathlib
import sys

import numpy
import torch
from transformers import AutoModel, AutoTokenizer

SEQUENCE_TOKENS_MAX = 256

TEXTS = [
    "",
    " ",
    "a",
    "!",
    "42",
    "\U0001f980",
    "Hello, world.",
    "The escrow refunds the requester when no operator answers before the deadline.",
    "the escrow refunds the requester when no operator answers before the deadline",
    "THE ESCROW REFUNDS THE REQUESTER WHEN NO OPERATOR ANSWERS BEFORE THE DEADLINE!",
    "Which payees share the price of an answered request, and in which ratio?",
    "How many confirmations does a withdrawal need on Base?",
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8 paid 12.500001 USDC to 0xdead…beef",
    "fn main() -> Result<(), Error> { let x: u64 = args.next()?.parse()?; Ok(()) }",
    "select number, hash from blocks where finality = 'safe' order by number desc limit 10;",
    "{\"id\": 7, \"answer\": null, \"citations\": [], \"split\": [5000, 3000, 2000]}",
    "https://example.org/agents/17/offer?token=ETH&price=0.001#terms",
    "line one\nline two\r\n\ttabbed  double  spaced\u00a0no-break",
    "zero\u200bwidth\u200djoiner\ufeffmark and \u0000 control \u0007 characters",
    "naïve café déjà vu — “quoted” … ‘single’",
    "Zażółć gęślą jaźń; příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Größe, Straße, Übermut: Falsches Üben von Xylophonmusik quält jeden größeren Zwerg.",
    "Ζαφείρι δέξου πάγκαλο, βαθῶν ψυχῆς τὸ σῆμα.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Їхав єдиний москаль. Чув, що віз царю жезл, п'ять шуб і гофр.",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق",
    "یک متن فارسی دربارهٔ قراردادهای هوشمند و پرداخت‌ها",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश करने वाले",
    "আমি বাংলায় গান গাই, আমি বাংলার গান গাই",
    "யாமறிந்த மொழிகளிலே தமிழ்மொழி போல் இனிதாவது எங்கும் காணோம்",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "いろはにほへと ちりぬるを わかよたれそ つねならむ",
    "ｆｕｌｌ－ｗｉｄｔｈ ＡＢＣ １２３ ｶﾀｶﾅ",
    "天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。",
    "以太坊智能合约在截止日期前无人应答时退款。",
    "다람쥐 헌 쳇바퀴에 타고파",
    "Nhà thơ viết bằng chữ Quốc ngữ: tiếng Việt có nhiều dấu thanh.",
    "Ⅳ ½ ² ™ ﬁ ﬂ Å Å é e\u0301 ñ n\u0303",
    "👩‍👩‍👧‍👦 🇺🇦 👍🏽 ❤️ ☕ emoji and text 🎉🎉🎉",
    "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α∧¬β = ¬(¬α∨β), ∇×E = −∂B/∂t",
    "[CLS] [SEP] [MASK] [PAD] [UNK] written as text",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "x" * 99,
    "y" * 101,
    "... --- ... !!! ??? ;;; ::: ((( ))) ### $$$ %%%",
    "don't can't won't it's o'clock rock-n-roll state-of-the-art e.g. i.e.",
    "1,234,567.89 -0.5e-10 0b1010 0o777 0xFFFF 1/3 50% $3.50 €20 £7 ¥900",
]

# Each is one token, so that texts of an exact number of tokens can be built from them.
WORDS = (
    "the request was answered by three operators before its deadline and money went to every "
    "owner of a share while readers saw how each block changed what they had been told about "
    "an open market of work paid in small coins with proof for those who ask"
).split()

# Tokens with the two special ones; past 256 the text is cut.
LENGTHS = [3, 4, 5, 8, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 100, 127, 128, 129, 192, 254, 255,
           256, 257, 300, 700]


def text_of(tokens: int) -> str:
    """A text of so many tokens, in an order that differs from length to length."""
    return " ".join(WORDS[(tokens * 7 + i * i + i * 5) % len(WORDS)] for i in range(tokens - 2))


def embed(tokenizer, model, text: str) -> numpy.ndarray:
    inputs = tokenizer(text, truncation=True, max_length=SEQUENCE_TOKENS_MAX, padding=False,
                       return_tensors="pt")
    with torch.no_grad():
        states = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1).expand(states.size()).float()
    pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
    return torch.nn.functional.normalize(pooled, p=2, dim=1)[0].numpy()


def model_hash(directory: pathlib.Path) -> str:
    names = ["config.json", "tokenizer.json", "model.safetensors"]
    lines = [f"{hashlib.sha256((directory / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    return hashlib.sha256(("auspex-model-1\n" + "".join(lines)).encode()).hexdigest()


def main() -> None:
    directory = pathlib.Path(sys.argv[1])
    here = pathlib.Path(__file__).parent
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    model.eval()

    texts = TEXTS + [text_of(length) for length in LENGTHS]
    for length, text in zip(LENGTHS, texts[len(TEXTS):]):
        assert len(tokenizer(text)["input_ids"]) == length, length
    vectors = numpy.stack([embed(tokenizer, model, text) for text in texts]).astype("<f4")
    (here / "vectors.f32").write_bytes(vectors.tobytes())
    document = {
        "model_hash": model_hash(directory),
        "torch": torch.__version__.split("+")[0],
        "tokens": [len(tokenizer(t, truncation=True, max_length=SEQUENCE_TOKENS_MAX)["input_ids"])
                   for t in texts],
        "texts": texts,
    }
    (here / "texts.json").write_text(json.dumps(document, ensure_ascii=True, indent=1) + "\n")

    chosen = [texts.index(""), texts.index("Hello, world."), 7, len(TEXTS) + LENGTHS.index(33)]
    document = {
        "model_hash": model_hash(directory),
        "texts": [texts[i] for i in chosen],
        "vectors": [[float(numpy.format_float_scientific(x)) for x in vectors[i]] for i in chosen],
    }
    path = here.parent.parent / "src" / "self_test.json"
    path.write_text(json.dumps(document, ensure_ascii=True, indent=None) + "\n")
    print(f"{len(texts)} texts, {vectors.nbytes} bytes of vectors")


main()
