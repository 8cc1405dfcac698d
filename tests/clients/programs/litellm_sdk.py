import sys

import litellm

ask = [{"role": "user", "content": "hi"}]
for chunk in litellm.completion(model=sys.argv[1], messages=ask, stream=True):
    print(chunk.choices[0].delta.content or "", end="")
