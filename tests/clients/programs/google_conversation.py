"""A chat of Google's SDK that calls a function by itself and sends the signatures back."""

from google import genai
from google.genai import types


def say_hello(name: str = "you") -> str:
    """Says hello."""
    return f"hello {name}"


chat = genai.Client().chats.create(model="gemini-2.5-pro", config=types.GenerateContentConfig(tools=[say_hello]))
print(chat.send_message("Say hello.").text)
