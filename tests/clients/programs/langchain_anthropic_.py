from langchain_anthropic import ChatAnthropic

for chunk in ChatAnthropic(model_name="claude-sonnet-5", timeout=None, stop=None).stream("hi"):
    print(chunk.text, end="")
