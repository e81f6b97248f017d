#!/usr/bin/env python3
"""The official OpenAI client against `auspex model serve`.

    pip install openai
    python3 oracle/scripts/check_openai_client.py AUSPEX [EMBEDDING_MODEL_DIR]

Serves the tiny decoder of the tests, and the embedding model when its directory is given.
"""

import json
import pathlib
import re
import subprocess
import sys

import openai

ROOT = pathlib.Path(__file__).resolve().parents[2]
DECODER = ROOT / "inference" / "tests" / "decoder" / "qwen3"


def main():
    auspex, *rest = sys.argv[1:]
    embedding = ["--model-dir", rest[0], "--device", "cpu"] if rest else ["--no-embedding"]
    server = subprocess.Popen(
        [auspex, "model", "serve", "--decoder-dir", DECODER, "--weights", "f32",
         "--cache-tokens", "512", "--listen", "127.0.0.1:0", *embedding],
        stderr=subprocess.PIPE, text=True,
    )
    try:
        url = None
        while url is None:
            line = server.stderr.readline()
            assert line, "the server has ended"
            found = re.search(r"http://\S+/v1", line)
            url = found and found[0]
        check(openai.OpenAI(base_url=url, api_key="none", max_retries=0), bool(rest), rest)
    finally:
        server.terminate()
        server.wait()
    print("the official client works")


def check(client, with_embedding, rest):
    models = [model.id for model in client.models.list()]
    assert models[0] == "qwen3", models

    messages = [{"role": "user", "content": "Who may refund?"}]
    settings = {"model": "qwen3", "messages": messages, "max_tokens": 20, "temperature": 1.3, "seed": 4}
    whole = client.chat.completions.create(**settings)
    assert whole.choices[0].message.role == "assistant"
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

    stream = client.chat.completions.create(
        **settings, stream=True, stream_options={"include_usage": True}
    )
    text, usage = "", None
    for piece in stream:
        usage = piece.usage or usage
        if piece.choices:
            text += piece.choices[0].delta.content or ""
    assert text == whole.choices[0].message.content
    assert usage.total_tokens == whole.usage.total_tokens

    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    shaped = client.chat.completions.create(
        model="qwen3", messages=messages, max_tokens=40,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    assert isinstance(json.loads(shaped.choices[0].message.content)["ok"], bool)

    for change, kind in [
        ({"model": "nothing"}, openai.NotFoundError),
        ({"messages": []}, openai.BadRequestError),
        ({"n": 2}, openai.BadRequestError),
    ]:
        try:
            client.chat.completions.create(**{**settings, **change})
        except kind as error:
            assert error.body["message"], error
        else:
            raise AssertionError(f"{change} was accepted")

    if with_embedding:
        name = pathlib.Path(rest[0]).resolve().name
        answer = client.embeddings.create(model=name, input=["a refund", "a credit", "a fish"])
        vectors = [item.embedding for item in answer.data]
        assert [len(vector) for vector in vectors] == [384] * 3
        near, far = (sum(x * y for x, y in zip(vectors[0], other)) for other in vectors[1:])
        assert near > far, (near, far)


if __name__ == "__main__":
    main()
