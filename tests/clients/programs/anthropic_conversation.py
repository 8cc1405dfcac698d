"""A loop of tool calls over the Messages API, streamed, with thinking."""

import sys

import anthropic

client, messages = anthropic.Anthropic(), [{"role": "user", "content": "Say hello."}]
tools = [{"name": "say_hello", "description": "Says hello.", "input_schema": {"type": "object", "properties": {}}}]
for _ in range(5):
    with client.messages.stream(
        model="claude-sonnet-4-5",
        max_tokens=4096,
        messages=messages,
        tools=tools,
        thinking={"type": "enabled", "budget_tokens": 2000},
    ) as stream:
        answer = stream.get_final_message()
    messages.append({"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in answer.content]})
    calls = [block for block in answer.content if block.type == "tool_use"]
    if not calls:
        print("".join(block.text for block in answer.content if block.type == "text"))
        sys.exit()
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "hello"} for call in calls]
    messages.append({"role": "user", "content": results})
