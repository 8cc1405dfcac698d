import { anthropic } from "@ai-sdk/anthropic";
import { google } from "@ai-sdk/google";
import { openai } from "@ai-sdk/openai";
import { streamText } from "ai";

const models = { openai: openai("gpt-5"), anthropic: anthropic("claude-sonnet-5"), google: google("gemini-3-pro") };
const { fullStream } = streamText({ model: models[process.argv[2]], prompt: "hi", onError() {} });
for await (const part of fullStream) {
  if (part.type === "text-delta") process.stdout.write(part.text);
  if (part.type === "error") {
    console.error(String(part.error));
    process.exitCode = 1;
  }
}
