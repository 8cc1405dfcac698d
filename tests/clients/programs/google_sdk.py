from google import genai

client = genai.Client()
print("".join(chunk.text or "" for chunk in client.models.generate_content_stream(model="gemini-3-pro", contents="hi")))
