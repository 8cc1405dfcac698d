"""The vendors' own Python SDKs, unmodified: plain and streamed, sync and async, through a failover.

Each runs in a process of its own that knows nothing of us: only the proxy and the CA, by the variables it always reads.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .behaviours import Behaviour, json_reply, sse
from .stage import CHAT, GEMINI, MESSAGES, RESPONSES, SECRETS, TOOL, Api, Stage, data, refusal

pytestmark = pytest.mark.tools

OPENAI = """
import asyncio, json, sys
import openai
plain, streamed, responses = sys.argv[1:4]
said = []
ask = [{"role": "user", "content": "hi"}]
with openai.OpenAI(max_retries=0) as client:
    said.append(client.chat.completions.create(model=plain, messages=ask).choices[0].message.content)
    stream = client.chat.completions.create(model=streamed, messages=ask, stream=True)
    said.append("".join(chunk.choices[0].delta.content or "" for chunk in stream))
    stream = client.responses.create(model=responses, input="hi", stream=True)
    said.append("".join(event.delta for event in stream if event.type == "response.output_text.delta"))
async def again():
    async with openai.AsyncOpenAI(max_retries=0) as client:
        answer = await client.chat.completions.create(model=plain, messages=ask)
        said.append(answer.choices[0].message.content)
        stream = await client.chat.completions.create(model=streamed, messages=ask, stream=True)
        said.append("".join([chunk.choices[0].delta.content or "" async for chunk in stream]))
asyncio.run(again())
print(json.dumps(said))
"""

SOCKET = """
import json, sys
import openai
first, second = sys.argv[1:3]
said = []
with openai.OpenAI(max_retries=0) as client, client.responses.connect() as connection:
    previous = None
    for model in (first, second):
        connection.response.create(model=model, input="hi", store=False, previous_response_id=previous)
        for event in connection:
            if event.type == "response.output_text.delta":
                said.append(event.delta)
            if event.type == "response.completed":
                previous = event.response.id
                break
print(json.dumps(said))
"""

ANTHROPIC = """
import asyncio, json, sys
import anthropic
plain, streamed, counted = sys.argv[1:4]
said = []
ask = dict(max_tokens=9, messages=[{"role": "user", "content": "hi"}])
with anthropic.Anthropic(max_retries=0) as client:
    said.append(client.messages.create(model=plain, **ask).content[0].text)
    with client.messages.stream(model=streamed, **ask) as stream:
        said.append("".join(stream.text_stream))
    said.append(client.messages.count_tokens(model=counted, messages=ask["messages"]).input_tokens)
async def again():
    async with anthropic.AsyncAnthropic(max_retries=0) as client:
        said.append((await client.messages.create(model=plain, **ask)).content[0].text)
        async with client.messages.stream(model=streamed, **ask) as stream:
            said.append("".join([text async for text in stream.text_stream]))
asyncio.run(again())
print(json.dumps(said))
"""

GOOGLE = """
import asyncio, json, sys
from google import genai
plain, streamed, counted = sys.argv[1:4]
client = genai.Client()
said = []
said.append(client.models.generate_content(model=plain, contents="hi").text)
said.append("".join(chunk.text for chunk in client.models.generate_content_stream(model=streamed, contents="hi")))
said.append(client.models.count_tokens(model=counted, contents="hi").total_tokens)
async def again():
    said.append((await client.aio.models.generate_content(model=plain, contents="hi")).text)
    stream = await client.aio.models.generate_content_stream(model=streamed, contents="hi")
    said.append("".join([chunk.text async for chunk in stream]))
asyncio.run(again())
print(json.dumps(said))
"""

CHAT_ANSWER = {
    "id": "c-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
}
CHAT_EVENTS = [
    data({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})
    for choice in (
        {"index": 0, "delta": {"role": "assistant", "content": ""}},
        {"index": 0, "delta": {"content": "one"}},
        {"index": 0, "delta": {"content": "two"}, "finish_reason": "stop"},
    )
]
USAGE = {"input_tokens": 1, "output_tokens": 1}
MESSAGE = {
    "id": "m-1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "stop_reason": None,
    "stop_sequence": None,
}
MESSAGE_EVENTS = [
    data({"type": "message_start", "message": {**MESSAGE, "content": [], "usage": USAGE}}, "message_start"),
    data(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        "content_block_start",
    ),
    data(
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one"}},
        "content_block_delta",
    ),
    data(
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "two"}},
        "content_block_delta",
    ),
    data({"type": "content_block_stop", "index": 0}, "content_block_stop"),
    data(
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}, "message_delta"
    ),
    data({"type": "message_stop"}, "message_stop"),
]


def run(stage: Stage, script: str, models: list[str], variable: str) -> list[object]:
    """Run a tool and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script, *models],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={
            "HTTPS_PROXY": f"http://127.0.0.1:{stage.proxy.port}",
            "SSL_CERT_FILE": str(stage.proxy.ca),
            "PATH": "",
            "HOME": str(stage.proxy.directory),
            variable: TOOL,
        },
    )
    assert done.returncode == 0, done.stderr + stage.proxy.log_text()[-3000:]
    said = json.loads(done.stdout)
    assert isinstance(said, list)
    return said


def models(stage: Stage, api: Api, *answers: Behaviour) -> list[str]:
    """An alias for each answer: the first candidate refuses it, the second gives the answer."""
    found = []
    for answer in answers:
        alias = stage.alias()
        stage.play(alias, {api.first: refusal(api, alias), api.second: answer})
        found.append(alias)
    return found


def test_openai(stage: Stage) -> None:
    """F01, S01 with the openai SDK: chat plain and streamed, responses streamed, sync and async."""
    names = models(
        stage, CHAT, json_reply(200, CHAT_ANSWER), sse(*CHAT_EVENTS, b"data: [DONE]\n\n"), RESPONSES.streams()
    )
    said = run(stage, OPENAI, names, "OPENAI_API_KEY")
    assert said == ["ok", "onetwo", "one", "ok", "onetwo"]
    assert [stage.order(name) for name in names] == [["a", "b", "b"], ["a", "b", "b"], ["a", "b"]]


def test_e07_openai_over_a_socket(stage: Stage) -> None:
    """E07 with the openai SDK, which does not go on over HTTP: two responses on one connection, each rescued."""
    names = models(stage, RESPONSES, RESPONSES.streams(), RESPONSES.streams())
    assert run(stage, SOCKET, names, "OPENAI_API_KEY") == ["one", "one"]
    assert [stage.order(name) for name in names] == [["a", "b"], ["a", "b"]]


def test_anthropic(stage: Stage) -> None:
    """F01, F02, S01 with the anthropic SDK: messages plain and streamed, count_tokens, sync and async."""
    answer = {**MESSAGE, "content": [{"type": "text", "text": "ok"}], "usage": USAGE}
    names = models(stage, MESSAGES, json_reply(200, answer), sse(*MESSAGE_EVENTS), json_reply(200, {"input_tokens": 7}))
    said = run(stage, ANTHROPIC, names, "ANTHROPIC_API_KEY")
    assert said == ["ok", "onetwo", 7, "ok", "onetwo"]
    first, second = "claude-a", "claude-b"
    assert [stage.order(name) for name in names] == [[first, second, second], [first, second, second], [first, second]]


def test_google_genai(stage: Stage) -> None:
    """F01, F02, S01 with the google-genai SDK: generate plain and streamed, count_tokens, sync and async."""
    names = models(stage, GEMINI, GEMINI.answers(), GEMINI.streams(), json_reply(200, {"totalTokens": 7}))
    said = run(stage, GOOGLE, names, "GEMINI_API_KEY")
    assert said == ["ok", "onetwo", 7, "ok", "onetwo"]
    first, second = "gemini-a", "gemini-b"
    assert [stage.order(name) for name in names] == [[first, second, second], [first, second, second], [first, second]]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
def test_curl(stage: Stage, version: str, tmp_path: Path) -> None:
    """F01, S01 with curl over HTTP/2 and HTTP/1.1: a streamed answer after a refusal, the version kept."""
    (alias,) = models(stage, CHAT, CHAT.streams())
    path, body = CHAT.ask(alias, True)
    (tmp_path / "body.json").write_text(json.dumps(body))
    head = ["-H", f"authorization: Bearer {TOOL}", "-H", "content-type: application/json"]
    done = subprocess.run(
        [
            *("curl", "-sS", "-N", version, "-x", f"http://127.0.0.1:{stage.proxy.port}"),
            *("--cacert", str(stage.proxy.ca), f"https://api.openai.com{path}", *head),
            *("-d", f"@{tmp_path}/body.json", "-w", "%{http_version} %{http_code}"),
        ],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = b"".join((*CHAT.lifecycle, *CHAT.events)) + (b"2 200" if version == "--http2" else b"1.1 200")
    assert done.stdout == expected
    assert stage.order(alias) == ["a", "b"]
    assert all(TOOL not in str(one.headers) for one in stage.seen(alias))
    assert SECRETS["b"] in str(stage.seen(alias)[1].headers)
