"""A loop of tool calls over the Responses API that sends its whole history back, as OpenAI's guide has it."""

import sys

import openai

client, history = openai.OpenAI(), [{"role": "user", "content": "Say hello."}]
tools = [{"type": "function", "name": "say_hello", "parameters": {"type": "object", "properties": {}}, "strict": False}]
for _ in range(5):
    answer = client.responses.create(
        model="gpt-5", input=history, tools=tools, store=False, include=["reasoning.encrypted_content"]
    )
    history += [item.model_dump(exclude_none=True) for item in answer.output]
    calls = [item for item in answer.output if item.type == "function_call"]
    if not calls:
        print(answer.output_text)
        sys.exit()
    history += [{"type": "function_call_output", "call_id": call.call_id, "output": "hello"} for call in calls]
