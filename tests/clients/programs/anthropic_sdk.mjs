import Anthropic from "@anthropic-ai/sdk";

const stream = await new Anthropic().messages.create({
  model: "claude-sonnet-5",
  max_tokens: 99,
  messages: [{ role: "user", content: "hi" }],
  stream: true,
});
for await (const event of stream) if (event.type === "content_block_delta") process.stdout.write(event.delta.text);
