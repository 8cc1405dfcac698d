import openai

with openai.OpenAI() as client:
    stream = client.responses.create(model="gpt-5", input="hi", stream=True)
    print("".join(event.delta for event in stream if event.type == "response.output_text.delta"))
