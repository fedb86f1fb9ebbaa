// The server's routes: requests, streamed answers, and faults as sentences.

export class Problem extends Error {
    constructor(kind, message, more = {}) {
        super(message);
        this.kind = kind;
        Object.assign(this, more);
    }
}

let key = "";
try {
    key = localStorage.getItem("weft-key") ?? sessionStorage.getItem("weft-key") ?? "";
} catch {
    // Without storage the key is asked for once a visit.
}
export function setKey(value, keep) {
    key = value;
    try {
        sessionStorage.setItem("weft-key", value);
        if (keep) localStorage.setItem("weft-key", value);
        else localStorage.removeItem("weft-key");
    } catch {
        // It is kept in memory alone.
    }
}

const headers = () => (key ? { authorization: `Bearer ${key}` } : {});

// What a failed answer means for the person who reads it.
async function problemOf(response) {
    let error = {};
    try {
        const body = await response.json();
        error = typeof body.error === "string" ? { message: body.error } : body.error ?? body;
    } catch {
        // An answer that is not JSON has its status alone.
    }
    return fromError(error, response.status, response.headers);
}

function retryAfter(h) {
    const ms = Number(h?.get("retry-after-ms"));
    if (ms > 0) return ms / 1000;
    const text = h?.get("retry-after");
    if (!text) return null;
    const s = Number(text);
    if (Number.isFinite(s)) return Math.max(0, s);
    const at = Date.parse(text);
    return Number.isNaN(at) ? null : Math.max(0, (at - Date.now()) / 1000);
}

export function fromError(error, status = 0, h = null) {
    const said = String(error?.message ?? "").trim();
    const code = String(error?.code ?? error?.type ?? "");
    const more = { status, code, param: error?.param ?? null, requestId: h?.get("x-request-id") ?? null };
    if (/context_length|exceed_context/.test(`${code} ${error?.type}`)) {
        // Some servers give the numbers as fields, some in the sentence alone.
        const told = /(\d+) tokens\b.*?room for (\d+)/s.exec(said);
        return new Problem("context", said || "The chat is longer than the model's context.", {
            ...more, prompt: error.n_prompt_tokens ?? (told ? Number(told[1]) : null), context: error.n_ctx ?? (told ? Number(told[2]) : null),
        });
    }
    if (status === 401) return new Problem("key", said || "The server asks for a key.", more);
    if (status === 503 || status === 429) {
        const what = code === "model_loading" ? "The server is loading the model." : "The server has no room just now.";
        return new Problem("busy", said || what, { ...more, retryAfter: retryAfter(h) ?? 2 });
    }
    if (status === 404 && code === "model_not_found") return new Problem("model", said || "The server has no such model.", more);
    if (status >= 500 || status === 0) return new Problem("server", said || `The server answered with status ${status}.`, more);
    return new Problem("request", said || `The server answered with status ${status}.`, more);
}

// The engine in this browser, where the page came with one: it stands between the page and its server.
export let device = null;
export const setDevice = (d) => { device = d; };

const ask = (path, init) => fetch(path, { ...init, headers: { ...headers(), ...init?.headers }, cache: "no-store" });
async function send(path, init) {
    try {
        return await (device ? device.route(path, init, ask) : ask(path, init));
    } catch (e) {
        if (e.name === "AbortError") throw e;
        throw new Problem("gone", "The server does not answer. It may have been stopped.");
    }
}

export async function get(path, signal) {
    const response = await send(path, { signal });
    if (!response.ok) throw await problemOf(response);
    return response.json();
}

async function asked(path, init) {
    const response = await send(path, init);
    if (!response.ok) throw await problemOf(response);
    return response;
}
export const post = async (path, body, signal) =>
    (await asked(path, { signal, method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) })).json();
// A form with a file. The header is one that a page of another site cannot send.
export const upload = async (path, form) => (await asked(path, { method: "POST", headers: key ? {} : { "x-api-key": "none" }, body: form })).json();
// Saves a file of the server; one that can be large goes by the browser's own way, where no key stands in it.
export async function save(path, name) {
    const link = document.createElement("a");
    link.href = key || device ? URL.createObjectURL(await blob(path)) : path;
    link.download = name;
    link.click();
    if (key || device) setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
export const remove = (path) => asked(path, { method: "DELETE" });
export const blob = async (path) => (await asked(path, {})).blob();
// Calls `on` for each event of a stream, until it ends.
export async function follow(path, signal, on) {
    for await (const data of events((await asked(path, { signal })).body)) {
        if (data === "[DONE]") return;
        on(JSON.parse(data));
    }
}

// The server's counters of each model: {model: {name: value}}; null where it tells none.
export async function metrics() {
    const response = await send("metrics", {});
    if (!response.ok) return null;
    const all = {};
    for (const [, name, model, value] of (await response.text()).matchAll(/^weft_(\w+)\{model="((?:[^"\\]|\\.)*)"\} ([\d.eE+-]+)$/gm)) {
        (all[model.replace(/\\(.)/g, "$1")] ??= {})[name] = Number(value);
    }
    return all;
}

// The lines of a byte stream as events: the data of each, its lines joined.
export async function* events(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let data = [];
    try {
        for (;;) {
            let part;
            try {
                part = await reader.read();
            } catch (e) {
                if (e.name === "AbortError") throw e;
                throw new Problem("cut", "The connection to the server broke in the middle of the answer.");
            }
            if (part.done) return;
            rest += part.value;
            let from = 0;
            for (let end; (end = rest.indexOf("\n", from)) >= 0; from = end + 1) {
                let line = rest.slice(from, end);
                if (line.endsWith("\r")) line = line.slice(0, -1);
                if (line === "") {
                    if (data.length) yield data.join("\n");
                    data = [];
                } else if (line.startsWith("data:")) {
                    data.push(line.slice(line[5] === " " ? 6 : 5));
                }
            }
            rest = rest.slice(from);
        }
    } finally {
        reader.cancel().catch(() => {});
    }
}

// A streamed chat completion: calls `on` for each chunk; resolves when the answer is whole.
export async function complete(body, signal, on) {
    const response = await send("v1/chat/completions", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
        signal,
    });
    if (!response.ok) throw await problemOf(response);
    let finished = false;
    for await (const data of events(response.body)) {
        if (data === "[DONE]") return;
        let chunk;
        try {
            chunk = JSON.parse(data);
        } catch {
            throw new Problem("cut", "The server sent a line that is not JSON.");
        }
        if (chunk.error) throw fromError(chunk.error);
        if (chunk.choices?.[0]?.finish_reason) finished = true;
        on(chunk);
    }
    // Both a proxy and a server that ends early close the stream without a word.
    if (!finished) throw new Problem("cut", "The answer was cut off before its end.");
}

// What the server has: models, defaults and device. What it does not offer stays empty.
export async function facts(model) {
    const list = await get("v1/models");
    const models = list.data ?? [];
    const one = models.some((m) => m.id === model) ? `?model=${encodeURIComponent(model)}` : "";
    const props = await get(`props${one}`).catch((e) => { if (e.kind === "gone") throw e; return {}; });
    return { models, props, pulls: list.pulls === true };
}

// Throws the problem of a server that is there and does not answer yet, or no longer.
export const health = () => get("health");
