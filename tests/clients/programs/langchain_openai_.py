from langchain_openai import ChatOpenAI

print("".join(str(chunk.content) for chunk in ChatOpenAI(model="gpt-5").stream("hi")))
