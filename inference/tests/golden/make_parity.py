#!/usr/bin/env python3
"""A thousand texts of many scripts and of 2 to 256 tokens, with their vectors from sentence-transformers in f32.

    pip install -r requirements.txt
    python3 make_parity.py MODEL_DIR

writes parity.json.gz (the texts) and parity.f32.gz (little-endian f32, 384 per text) beside this script. Lengths are spread
evenly over their logarithm, as those of questions and passages are, and every text is embedded alone, so that no padding
takes part. The vectors are kept in full: at a thousand they stay below 2 MB.
"""

import gzip
import json
import pathlib
import random
import sys

import numpy
import torch
from sentence_transformers import SentenceTransformer

COUNT = 1000
TOKENS_MIN, TOKENS_MAX = 3, 256

WORDS = {
    "english": "the escrow refunds every requester when no operator answers before its deadline passes and payees share",
    "code": "fn main() -> Result<u64, Error> { select * from blocks where number = $1; } 0xdead…beef 1,234.56 a&&b |x| #[test]",
    "german": "Größe Straße Übermut Vertragsprüfung Bürgermeister jeden zwölf Boxkämpfer über den großen Sylter Deich",
    "french": "naïve café déjà vu où l'œuvre élève français garçon août çà et là noël aïeul",
    "polish": "Zażółć gęślą jaźń źdźbło świeża łódź pchnąć żółw ósmy",
    "vietnamese": "tiếng Việt có nhiều dấu thanh chữ Quốc ngữ người được những",
    "turkish": "İstanbul ışık çığ öğüt şişe ğ küçük büyük",
    "greek": "Ζαφείρι δέξου πάγκαλο βαθῶν ψυχῆς τὸ σῆμα και το φως",
    "russian": "съешь же ещё этих мягких французских булок да выпей чаю",
    "ukrainian": "їхав єдиний москаль чув що віз царю жезл п'ять шуб",
    "georgian": "ქართული ენა და დამწერლობა არის ძველი",
    "armenian": "հայերեն լեզու և գիր մեծ երկիր",
    "hebrew": "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "arabic": "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر",
    "persian": "یک متن فارسی دربارهٔ قراردادهای هوشمند و پرداخت‌ها",
    "hindi": "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण",
    "bengali": "আমি বাংলায় গান গাই আমার প্রাণের",
    "tamil": "யாமறிந்த மொழிகளிலே தமிழ்மொழி போல் இனிதாவது",
    "thai": "เป็นมนุษย์ สุดประเสริฐ เลิศคุณค่า กว่าบรรดา ฝูงสัตว์",
    "chinese": "天地玄黃 宇宙洪荒 日月盈昃 以太坊 智能合约 在截止日期前 无人应答时 退款",
    "japanese": "いろはにほへと ちりぬるを 東京タワー カタカナ ｶﾀｶﾅ 私は学生です",
    "korean": "다람쥐 헌 쳇바퀴에 타고파 한국어 문장 계약",
    "emoji": "🦀 👩‍👩‍👧‍👦 🇺🇦 👍🏽 ❤️ ☕ 🎉🎉 ok :-)",
    "symbols": "∀x∈ℝ ⌈x⌉ α∧¬β ∇×E ½ ² ™ ﬁ Ⅳ … — „“ ??? ((( ))) \u200b \ufeff",
}


def text_of(random_: random.Random, tokenizer, words: list[str], tokens: int) -> str:
    """Words until the text has `tokens` with the special ones, or as few more as the last word brings."""
    chosen: list[str] = []
    count = 2
    while count < tokens:
        word = random_.choice(words)
        chosen.append(word)
        count += len(tokenizer(word, add_special_tokens=False)["input_ids"])
    return " ".join(chosen)


def main() -> None:
    here = pathlib.Path(__file__).parent
    torch.set_num_threads(1)
    model = SentenceTransformer(sys.argv[1], device="cpu", local_files_only=True)
    model.max_seq_length = TOKENS_MAX
    random_ = random.Random(20_240_229)
    scripts = [words.split() for words in WORDS.values()]
    scripts.append([word for words in scripts for word in words])
    texts = []
    for index in range(COUNT):
        tokens = TOKENS_MIN * (TOKENS_MAX / TOKENS_MIN) ** (index / (COUNT - 1))
        texts.append(text_of(random_, model.tokenizer, scripts[index % len(scripts)], round(tokens)))
    random_.shuffle(texts)
    vectors = model.encode(texts, batch_size=1, normalize_embeddings=True, convert_to_numpy=True)
    assert vectors.shape == (COUNT, 384) and vectors.dtype == numpy.float32

    def write(name: str, data: bytes) -> None:
        (here / name).write_bytes(gzip.compress(data, compresslevel=9, mtime=0))

    write("parity.json.gz", json.dumps(texts, ensure_ascii=False).encode())
    write("parity.f32.gz", vectors.astype("<f4").tobytes())


main()
