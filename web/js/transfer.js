// Chats to files and back: JSON, which has everything, and Markdown, which people read.
import { fault, pathOf, ROOT } from "./tree.js";
import * as store from "./store.js";

const FORMAT = "weft-chats";

export function toJson(list) {
    return `${JSON.stringify({ format: FORMAT, version: 1, chats: list }, null, 1)}\n`;
}

export function toMarkdown(chat, messages) {
    const parts = [`# ${chat.title}`];
    if (chat.settings.system) parts.push(`> ${chat.settings.system.replace(/\n/g, "\n> ")}`);
    for (const m of pathOf(messages, chat.choice)) {
        const who = m.role === "user" ? "You" : m.role === "tool" ? `Result of ${m.name}` : m.model || "Answer";
        const files = (m.files ?? []).map((f) => `*File: ${f.name}*\n\n\`\`\`\`\n${f.text}\n\`\`\`\``);
        const calls = (m.calls ?? []).map((c) => `\`\`\`json\n${JSON.stringify({ call: c.name, arguments: c.arguments })}\n\`\`\``);
        parts.push(`## ${who}`, ...files, m.content, ...calls);
    }
    return `${parts.filter(Boolean).join("\n\n")}\n`;
}

const text = (value, most = 200) => (typeof value === "string" ? value.slice(0, most) : "");

// Chats from the text of a file, with new ids; throws a sentence that says what is wrong.
export function fromJson(source) {
    let data;
    try {
        data = JSON.parse(source);
    } catch (e) {
        throw new Error(`The file is no JSON: ${e.message}`);
    }
    if (data?.format !== FORMAT || !Array.isArray(data.chats)) throw new Error("The file holds no chats of this page.");
    if (data.version !== 1) throw new Error(`The file has version ${data.version}, and this page reads version 1.`);
    return data.chats.map(({ chat, messages } = {}, i) => {
        if (typeof chat?.id !== "string" || !Array.isArray(messages)) throw new Error(`Chat ${i + 1} of the file is not whole.`);
        const wrong = fault(messages);
        if (wrong) throw new Error(`In chat ${i + 1} of the file, ${wrong}.`);
        return renamed(chat, messages);
    });
}

const entries = (value, types) => Object.fromEntries(
    Object.entries(typeof value === "object" && value !== null ? value : {}).filter(([, v]) => types.includes(typeof v)));
const values = (value) => entries(value, ["string", "number"]);
const numbers = (value) => entries(value, ["number"]);

// New ids, so that what is here already stays as it is. What a file says of other kinds of value is left out.
function renamed(chat, messages) {
    const ids = new Map(messages.map((m) => [m.id, store.newId()]));
    const id = store.newId();
    const choice = {};
    for (const [from, to] of Object.entries(chat.choice ?? {})) {
        if (ids.has(to) && (from === ROOT || ids.has(from))) choice[ids.get(from) ?? ROOT] = ids.get(to);
    }
    const now = Date.now();
    const strings = (list, keys) => (Array.isArray(list) ? list : []).map((x) => Object.fromEntries(keys.map((k) => [k, text(x?.[k], 1e8)])));
    const passages = (list) => (list?.length ? strings(list, ["document", "name", "heading", "text"]).map((p, i) => ({ ...p, page: Number(list[i]?.page) || null })) : null);
    return {
        chat: {
            id, title: text(chat.title) || "Chat", named: Boolean(chat.named), pinned: Boolean(chat.pinned),
            created: Number(chat.created) || now, updated: Number(chat.updated) || now, choice, used: Number(chat.used) || 0,
            settings: values(chat.settings),
        },
        messages: messages.map((m, seq) => ({
            id: ids.get(m.id), chat: id, parent: m.parent == null ? null : ids.get(m.parent), role: m.role,
            content: m.content, thinking: text(m.thinking, 1e8), model: text(m.model), strengths: text(m.strengths), problem: null,
            created: Number(m.created) || now, seq: Number(m.seq) || seq, thinkMs: Number(m.thinkMs) || 0,
            files: strings(m.files, ["name", "text"]), calls: strings(m.calls, ["id", "name", "arguments"]),
            passages: passages(m.passages), sources: passages(m.sources),
            callId: text(m.callId), name: text(m.name), stats: numbers(m.stats), json: Boolean(m.json), inline: Boolean(m.inline),
            valid: typeof m.valid === "boolean" ? m.valid : null, edited: Boolean(m.edited), dropped: Number(m.dropped) || 0,
            state: m.state === "streaming" ? "cut" : text(m.state) || "done",
        })),
    };
}
