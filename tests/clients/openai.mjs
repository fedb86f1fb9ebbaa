// The JavaScript clients against a running server: node openai.mjs URL MODEL FIELDS. A line of JSON a case.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.WEFT_CLIENTS_NODE ?? process.cwd(), "package.json"));
const at = process.argv[2];
const version = (name) => {
    const path = require.resolve(name).split(`node_modules/${name}`)[0];
    return JSON.parse(readFileSync(`${path}node_modules/${name}/package.json`, "utf8")).version;
};
const check = (it, what) => { if (!it) throw new Error(what); };

async function run(client, what, test) {
    let error = null;
    try {
        await test();
    } catch (e) {
        error = String(e?.message ?? e).slice(0, 300);
    }
    console.log(JSON.stringify({ client: `${client} (npm)`, version: version(client), what, error }));
}

const model = process.argv[3];
const brief = JSON.parse(process.argv[4]);
const messages = [{ role: "user", content: "What is 17 + 25?" }];
const OpenAI = require("openai").OpenAI;
const openai = new OpenAI({ baseURL: `${at}/v1`, apiKey: "none" });

await run("openai", "chat", async () => {
    const answer = await openai.chat.completions.create({ model, messages });
    check(answer.choices[0].message.content.includes("42"), JSON.stringify(answer));
});
await run("openai", "stream", async () => {
    let text = "";
    for await (const chunk of await openai.chat.completions.create({ model, messages, stream: true })) {
        text += chunk.choices[0]?.delta.content ?? "";
    }
    check(text.includes("42"), text);
});
await run("openai", "break aborts and frees the slot", async () => {
    const stream = await openai.chat.completions.create({ model, messages, stream: true, max_tokens: 900, ignore_eos: true });
    for await (const _ of stream) break;
    for (let i = 0; i < 100; i++) {
        const slots = await (await fetch(`${at}/slots`)).json();
        if (!slots.some((slot) => slot.is_processing)) return;
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error("a slot is still taken");
});
await run("openai", "tools", async () => {
    const parameters = { type: "object", properties: { a: { enum: [1, 2] } }, required: ["a"], additionalProperties: false };
    const tools = [{ type: "function", function: { name: "pick", parameters, strict: true } }];
    const runner = openai.chat.completions.stream({ model, messages, tools, tool_choice: "required", ...brief });
    const call = (await runner.finalChatCompletion()).choices[0].message.tool_calls[0];
    check(call.function.name === "pick" && [1, 2].includes(JSON.parse(call.function.arguments).a), JSON.stringify(call));
});
await run("openai", "errors", async () => {
    try {
        await openai.chat.completions.create({ model: "gpt-4", messages });
    } catch (e) {
        check(e.status === 404 && e.code === "model_not_found", String(e));
        return;
    }
    throw new Error("another model answered");
});

let ai = null;
try {
    ai = { ...require("ai"), ...require("@ai-sdk/openai-compatible") };
} catch {
    // It is not installed.
}
if (ai) {
    const weft = ai.createOpenAICompatible({ name: "weft", baseURL: `${at}/v1` });
    await run("ai", "generateText", async () => {
        const { text } = await ai.generateText({ model: weft(model), messages });
        check(text.includes("42"), text);
    });
    await run("ai", "streamText", async () => {
        let text = "";
        for await (const part of ai.streamText({ model: weft(model), messages }).textStream) text += part;
        check(text.includes("42"), text);
    });
}
