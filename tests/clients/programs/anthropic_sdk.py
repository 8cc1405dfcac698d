import anthropic

with (
    anthropic.Anthropic() as client,
    client.messages.stream(
        model="claude-sonnet-5", max_tokens=99, messages=[{"role": "user", "content": "hi"}]
    ) as stream,
):
    print("".join(stream.text_stream))
