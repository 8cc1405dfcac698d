import openai

with openai.OpenAI() as client:
    stream = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hi"}], stream=True)
    print("".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))
