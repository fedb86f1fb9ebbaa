// The settings of a chat, and the request that follows from them. Only what was set is sent: the rest is the server's.

import { promptOf } from "./documents.js";

export const SAMPLING = [
    { key: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, hint: "0 takes the likeliest token always" },
    { key: "top_p", label: "Top-p", min: 0, max: 1, step: 0.01, hint: "the likeliest tokens up to this share" },
    { key: "top_k", label: "Top-k", min: 0, max: 1000, step: 1, whole: true, hint: "this many likeliest tokens; 0 takes all" },
    { key: "min_p", label: "Min-p", min: 0, max: 1, step: 0.01, hint: "tokens at least this share of the likeliest" },
    { key: "repeat_penalty", label: "Repeat penalty", min: 0.5, max: 2, step: 0.05, hint: "1 is none" },
    { key: "presence_penalty", label: "Presence penalty", min: -2, max: 2, step: 0.1, hint: "against tokens that were there" },
    { key: "frequency_penalty", label: "Frequency penalty", min: -2, max: 2, step: 0.1, hint: "against tokens, each time more" },
    { key: "seed", label: "Seed", min: 0, max: 4294967295, step: 1, whole: true, hint: "the same seed gives the same text" },
    { key: "max_tokens", label: "Most tokens", min: 1, max: 1000000, step: 1, whole: true, hint: "where an answer ends at the latest" },
];

// The adapters that a model of /v1/models has, each with its strength where none is set: its own if the model's name has
// it, and none otherwise. A model that is not open yet tells no more than its name.
export function adaptersOf({ id, meta }) {
    const named = id.replace(/@[^@]*$/, "").split("+").slice(1);
    const known = meta?.adapters ?? named.map((name) => ({ name, scale: 1 }));
    return known.map(({ name, scale }) => ({ name, start: named.includes(name) ? scale : 0 }));
}

// The setting that has an adapter's strength. Each model of a chat has strengths of its own.
export const strengthKey = (model, name) => `strength|${model}|${name}`;

// The strengths that a chat sets of a model's adapters, as the server takes them.
export function strengthsOf(settings, model) {
    const start = strengthKey(model, "");
    return Object.entries(settings).filter(([key]) => key.startsWith(start)).map(([key, scale]) => ({ name: key.slice(start.length), scale }));
}

// The number in a field, or why there is none: {value} or {wrong}.
export function numberOf(rule, text) {
    const said = text.trim();
    if (said === "") return { value: null };
    const value = Number(said.replace(",", "."));
    if (!Number.isFinite(value)) return { wrong: `${rule.label} is a number.` };
    if (rule.whole && !Number.isInteger(value)) return { wrong: `${rule.label} is a whole number.` };
    if (value < rule.min || value > rule.max) return { wrong: `${rule.label} lies between ${rule.min} and ${rule.max}.` };
    return { value };
}

// A JSON schema from its text: {value} or {wrong}.
export function schemaOf(text) {
    if (!text.trim()) return { wrong: "Write a JSON schema, such as {\"type\": \"object\"}." };
    try {
        const value = JSON.parse(text);
        if (typeof value !== "object" || value === null || Array.isArray(value)) return { wrong: "A schema is a JSON object." };
        return { value };
    } catch (e) {
        return { wrong: `The schema is no JSON: ${e.message}` };
    }
}

// Tools from their text: an array of functions, with or without {type, function} around each.
export function toolsOf(text) {
    if (!text.trim()) return { value: null };
    let list;
    try {
        list = JSON.parse(text);
    } catch (e) {
        return { wrong: `The tools are no JSON: ${e.message}` };
    }
    if (!Array.isArray(list)) list = [list];
    const tools = [];
    for (const t of list) {
        const f = t?.type === "function" && t.function ? t.function : t;
        if (!/^[A-Za-z0-9_-]{1,64}$/.test(f?.name ?? "")) {
            return { wrong: "Each tool needs a name of at most 64 letters, digits, _ and -." };
        }
        tools.push({ type: "function", function: f });
    }
    return { value: tools.length ? tools : null };
}

export const EXAMPLE_TOOL = `[
  {
    "name": "get_weather",
    "description": "The weather in a city now",
    "parameters": {
      "type": "object",
      "properties": { "city": { "type": "string" } },
      "required": ["city"]
    }
  }
]`;
export const EXAMPLE_SCHEMA = `{
  "type": "object",
  "properties": {
    "answer": { "type": "number" },
    "unit": { "type": "string" }
  },
  "required": ["answer"],
  "additionalProperties": false
}`;

function textOf(message, last) {
    // Passages are in the prompt of the question that they were found for, and not of those behind it.
    const content = last && message.passages?.length ? promptOf(message.passages, message.content) : message.content;
    if (!message.files?.length) return content;
    const files = message.files.map((f) => {
        const fence = "`".repeat(Math.max(3, ...(f.text.match(/`+/g) ?? []).map((run) => run.length + 1)));
        return `File: ${f.name}\n${fence}\n${f.text}\n${fence}`;
    });
    return [...files, content].filter(Boolean).join("\n\n");
}

// The messages of a branch as the server takes them.
export function wireMessages(path, system) {
    const messages = system?.trim() ? [{ role: "system", content: system }] : [];
    const asked = path.findLast((m) => m.role === "user");
    for (const [i, m] of path.entries()) {
        if (m.role === "user") messages.push({ role: "user", content: textOf(m, m === asked) });
        else if (m.role === "tool") messages.push({ role: "tool", tool_call_id: m.callId, content: m.content });
        else {
            const calls = m.calls?.length ? m.calls.map((c) => ({
                id: c.id, type: "function", function: { name: c.name, arguments: c.arguments || "{}" },
            })) : null;
            const last = i === path.length - 1;
            if (!m.content && !calls && !(last && m.thinking)) continue;
            // Thoughts that came within the text go back as they came, where the model is to go on behind them.
            const within = last && m.inline && m.thinking;
            const out = { role: "assistant", content: within ? `<think>${m.thinking}</think>\n\n${m.content}` : m.content };
            if (calls) out.tool_calls = calls;
            if (m.thinking && !m.inline && (calls || last)) out.reasoning_content = m.thinking;
            messages.push(out);
        }
    }
    return messages;
}

// The request that asks for what follows `path`; `resume` goes on with its last message.
export function requestOf(path, settings, model, resume) {
    const body = {
        model,
        messages: wireMessages(path, settings.system),
        stream: true,
        stream_options: { include_usage: true },
        return_progress: true,
    };
    const lora = strengthsOf(settings, model);
    if (lora.length) body.lora = lora;
    for (const { key } of SAMPLING) if (settings[key] != null) body[key] = settings[key];
    const stops = (settings.stop ?? "").split("\n").filter((s) => s !== "").map((s) => s.replace(/\\n/g, "\n"));
    if (stops.length) body.stop = stops;
    if (settings.thinking === "off") body.chat_template_kwargs = { enable_thinking: false };
    if (settings.thinking === "on") body.chat_template_kwargs = { enable_thinking: true };
    if (resume) {
        body.continue_final_message = true;
        body.add_generation_prompt = false;
        return body;
    }
    const tools = toolsOf(settings.tools ?? "").value;
    if (tools) {
        body.tools = tools;
        if (settings.tool_choice && settings.tool_choice !== "auto") {
            body.tool_choice = ["none", "required"].includes(settings.tool_choice)
                ? settings.tool_choice
                : { type: "function", function: { name: settings.tool_choice } };
        }
    }
    if (settings.format === "json") body.response_format = { type: "json_object" };
    if (settings.format === "schema") {
        const schema = schemaOf(settings.schema ?? "").value;
        if (schema) body.response_format = { type: "json_schema", json_schema: { name: "answer", schema, strict: true } };
    }
    return body;
}
