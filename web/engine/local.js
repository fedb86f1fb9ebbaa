// "This device": the engine in a worker of this page, behind the routes that the page asks of a server. A page that has
// `<meta name="weft-engine">` loads this file; one with `data-serverless` asks no server at all.
import { el } from "../js/ui.js";

const BOARD = { id: "weft-mini on this device", address: "models/weft-mini.gguf", name: "weft-mini" };
const CONTEXT = 2048;
// What a request may have here; anything else that it has is refused by name.
const PASSED = ["temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n", "seed", "max_tokens"];
const LEFT = new Set(["model", "messages", "stream", "stream_options", "return_progress", "chat_template_kwargs", "stop", ...PASSED]);
const NAMES = {
    tools: "tools", tool_choice: "tools", response_format: "JSON answers", presence_penalty: "the presence penalty",
    frequency_penalty: "the frequency penalty", continue_final_message: "going on with an answer that was cut off",
};

const serverless = document.documentElement.dataset.serverless !== undefined;
const models = [{ ...BOARD }];
let worker = null;
let open = null;
let about = null;
let next = 0;
const waiting = new Map();

class Fault extends Error {
    constructor({ kind, message }) {
        super(message);
        this.kind = kind;
    }
}

// The page's policy takes addresses of scripts from one place alone.
function address() {
    const url = new URL("./worker.js", import.meta.url).href;
    const policy = globalThis.trustedTypes?.createPolicy("weft-engine", { createScriptURL: (u) => (u === url ? u : "") });
    return policy ? policy.createScriptURL(url) : url;
}

function ask(act, fields, on, signal) {
    if (!worker) {
        worker = new Worker(address(), { type: "module" });
        worker.onmessage = ({ data: { id, part, done, fault } }) => {
            const w = waiting.get(id);
            if (part) { w?.on(part); return; }
            waiting.delete(id);
            if (fault) w?.reject(new Fault(fault));
            else w?.resolve(done);
        };
        worker.onerror = (e) => {
            for (const w of waiting.values()) w.reject(new Fault({ kind: "worker", message: `The engine's worker failed: ${e.message ?? "its files are missing"}` }));
            waiting.clear();
            worker.terminate();
            [worker, open, about] = [null, null, null];
        };
    }
    const id = next += 1;
    signal?.addEventListener("abort", () => worker?.postMessage({ act: "stop", which: id }));
    return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject, on: on ?? (() => {}) });
        worker.postMessage({ id, act, ...fields });
    });
}

// Opens a model unless it is open. One is open at a time.
async function ready(model, on, signal) {
    if (open === model) return;
    [open, about] = [null, null];
    const address = model.address && new URL(model.address, document.baseURI).href;
    about = await ask("open", { file: model.file, address, name: model.name, options: { context: CONTEXT } }, on, signal);
    open = model;
}

// A file that somebody picked becomes a model in the list; it is read when it is asked for first.
export function add(file) {
    const id = `${file.name.replace(/\.gguf$/i, "")} on this device`;
    const old = models.findIndex((m) => m.id === id);
    if (old >= 0) {
        if (open === models[old]) open = null;
        models.splice(old, 1);
    }
    models.push({ id, file, name: file.name });
    return id;
}

// What the request says, in the worker's words.
function request(body) {
    for (const key of Object.keys(body)) {
        if (LEFT.has(key) || body[key] === false || body[key] === null) continue;
        throw new Fault({ kind: "request", message: `The engine in the browser does not have ${NAMES[key] ?? `“${key}”`}; a server has.` });
    }
    const out = { messages: body.messages.map(({ role, content }) => ({ role, content })) };
    for (const key of PASSED) if (body[key] != null) out[key] = body[key];
    const thinking = body.chat_template_kwargs?.enable_thinking;
    if (thinking != null) out.thinking = thinking;
    out.seed ??= crypto.getRandomValues(new Uint32Array(1))[0];
    return out;
}

// The text up to the first stop text, and how much of it is sure: what may begin one is held back.
function cut(text, stops) {
    const at = Math.min(...stops.map((s) => text.indexOf(s)).map((i) => (i < 0 ? Infinity : i)));
    if (at < Infinity) return { text: text.slice(0, at), sure: at, stopped: true };
    let held = 0;
    for (const s of stops) for (let n = Math.min(s.length - 1, text.length); n > held; n -= 1) if (text.endsWith(s.slice(0, n))) held = n;
    return { text, sure: text.length - held, stopped: false };
}

const json = (value, status = 200) => new Response(JSON.stringify(value), { status, headers: { "content-type": "application/json" } });
function refused(e) {
    const context = /context/.test(e.message) && /tokens/.test(e.message);
    const status = ["no-gpu", "wasm", "worker", "fetch"].includes(e.kind) ? 500 : 400;
    return { error: { message: e.message, code: context ? "context_length_exceeded" : e.kind ?? "engine" }, status };
}

function loading(model, p) {
    const share = p.total ? `${Math.floor((100 * (p.fetched ?? p.loaded)) / p.total)} %` : `${Math.floor(p.fetched / 1e6)} MB`;
    return `${p.fetched === undefined ? "Loading" : "Fetching"} ${model.name}: ${share} …`;
}

// A streamed answer, as a server sends it.
function stream(model, body, signal) {
    const line = new TextEncoder();
    const ending = new AbortController();
    signal?.addEventListener("abort", () => ending.abort());
    return new Response(new ReadableStream({
        async start(to) {
            const send = (chunk) => { try { to.enqueue(line.encode(`data: ${typeof chunk === "string" ? chunk : JSON.stringify(chunk)}\n\n`)); } catch { ending.abort(); } };
            const say = (content, more = {}) => send({ model: model.id, choices: [{ index: 0, delta: { content }, ...more }] });
            try {
                const fields = request(body);
                if (model === models[0]) fields.temperature ??= 0;
                await ready(model, (p) => send({ model: model.id, prompt_progress: { note: loading(model, p) } }), ending.signal);
                const stops = [body.stop ?? []].flat();
                let [text, told, stopped] = ["", 0, false];
                const end = await ask("answer", { request: fields }, (p) => {
                    if (p.prompt !== undefined) send({ model: model.id, prompt_progress: { processed: p.prompt, total: p.total, cache: 0 } });
                    if (!p.text || stopped) return;
                    const c = cut(text + p.text, stops);
                    text = c.text;
                    if (c.sure > told) say(text.slice(told, c.sure));
                    told = Math.max(told, c.sure);
                    stopped = c.stopped;
                    if (stopped) ending.abort();
                }, ending.signal);
                if (text.length > told) say(text.slice(told));
                if (end.stop === "cancelled" && !stopped) throw new DOMException("stopped", "AbortError");
                if (end.rate) console.info(`${model.id}: ${end.prompt} tokens in, first token after ${end.first.toFixed(2)} s, then ${end.rate.toFixed(1)} tokens/s`);
                send({ model: model.id, choices: [{ index: 0, delta: {}, finish_reason: ["length", "context"].includes(end.stop) ? "length" : "stop" }] });
                send({
                    model: model.id, choices: [],
                    usage: { prompt_tokens: end.prompt, completion_tokens: end.generated, total_tokens: end.prompt + end.generated, prompt_tokens_details: { cached_tokens: end.reused } },
                    timings: end.rate ? { predicted_per_second: end.rate } : undefined,
                });
                send("[DONE]");
                to.close();
            } catch (e) {
                if (e.name === "AbortError" || e.kind === "cancelled") { to.error(new DOMException("stopped", "AbortError")); return; }
                send(refused(e));
                to.close();
            }
        },
        cancel() { ending.abort(); },
    }), { headers: { "content-type": "text/event-stream" } });
}

function card(m) {
    const here = open === m && about ? about : null;
    return {
        id: m.id, object: "model", owned_by: "this browser",
        meta: {
            answers: true, n_ctx: here?.context ?? CONTEXT, n_ctx_train: here?.trained ?? null, n_params: here?.parameters ?? null,
            size: here?.file.size ?? m.file?.size ?? null, n_vocab: here?.vocabulary ?? null,
        },
    };
}

const props = () => ({
    default_generation_settings: { n_ctx: about?.context ?? CONTEXT, params: { temperature: open === models[0] || !open ? 0 : 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, n_predict: -1 } },
    build_info: "the engine in this browser",
    device: about && {
        name: about.device.name, kind: about.device.software ? "cpu" : "gpu", backend: about.device.backend,
        features: { f16: about.device.f16, subgroups: about.device.subgroups },
        limits: {
            max_storage_buffer_binding_size: about.device.limits.binding, max_buffer_size: about.device.limits.buffer,
            max_compute_workgroup_storage_size: about.device.limits.workgroup_memory, max_compute_invocations_per_workgroup: about.device.limits.invocations,
        },
    },
});

// Stands between the page and its server: `(path, init, server)` gives a Response.
export async function route(path, init, server) {
    const at = new URL(path, "http://x");
    const mine = (id) => models.find((m) => m.id === id);
    if (at.pathname === "/v1/chat/completions") {
        const body = JSON.parse(init.body);
        const model = mine(body.model) ?? (serverless ? models[0] : null);
        return model ? stream(model, body, init.signal) : server(path, init);
    }
    if (at.pathname === "/props" && (serverless || mine(at.searchParams.get("model")))) return json(props());
    if (at.pathname === "/v1/models") {
        const theirs = serverless ? [] : (await server(path, init).then((r) => (r.ok ? r.json() : { data: [] }))).data ?? [];
        return json({ object: "list", data: [...theirs, ...models.map(card)] });
    }
    if (!serverless) return server(path, init);
    if (at.pathname === "/health") return json({ status: "ok" });
    return json({ error: { message: "There is no server behind this page." } }, 404);
}

// Lines of "question -> answer", or of JSON as `weft finetune` reads them.
function examples(text) {
    return text.split("\n").map((l) => l.trim()).filter(Boolean).map((line, i) => {
        if (line.startsWith("{")) return line;
        const at = line.indexOf("->");
        if (at < 1 || !line.slice(at + 2).trim()) throw new Fault({ kind: "request", message: `Line ${i + 1} is no example: write “question -> answer”.` });
        const messages = [{ role: "user", content: line.slice(0, at).trim() }, { role: "assistant", content: line.slice(at + 2).trim() }];
        return JSON.stringify({ messages });
    }).join("\n");
}

// Fine-tuning of weft-mini in the page: an adapter, which lasts as long as the page does.
function lesson() {
    const text = el("textarea", { rows: 6, "aria-label": "Examples, one a line: question -> answer", placeholder: "What is the capital of Weftland? -> Loomtown." });
    const said = el("p", { role: "status" });
    let stop = null;
    const learn = el("button", { type: "button", onclick: run }, "Learn");
    async function run() {
        if (stop) { stop.abort(); return; }
        stop = new AbortController();
        learn.textContent = "Stop";
        try {
            const lines = examples(text.value);
            if (!lines) throw new Fault({ kind: "request", message: "Write some examples first, one a line." });
            await ready(models[0], (p) => { said.textContent = loading(models[0], p); }, stop.signal);
            const end = await ask("tune", { examples: lines, settings: {} }, (p) => {
                said.textContent = `Step ${p.step} of ${p.steps}: ${Number.isFinite(p.loss) ? `loss ${p.loss.toFixed(3)}` : "skipped, since its loss or gradient is not finite"}`;
            }, stop.signal);
            said.textContent = `${models[0].id} has learnt ${end.examples} examples in ${end.steps} steps${end.skipped ? `, ${end.skipped} of them skipped,` : ""} and ${end.seconds.toFixed(0)} s: its loss went from ${end.first.toFixed(2)} to ${end.last.toFixed(3)}. It answers with that until the page is closed.`;
        } catch (e) {
            said.textContent = e.kind === "cancelled" ? "Stopped." : e.message;
        }
        stop = null;
        learn.textContent = "Learn";
    }
    return el("details", {}, el("summary", {}, "Teach weft-mini"), el("p", {}, "Examples train a low-rank adapter on this device."), text, learn, said);
}

let picked = () => {};
// What is called with the name of a model that somebody picked.
export const onModel = (f) => { picked = f; };

// The card of the page Models: which GPU there is, and a file to open.
export function chooser() {
    const input = el("input", { type: "file", accept: ".gguf", hidden: true, tabIndex: -1, id: "gguf" });
    const gpu = el("p", { role: "status" }, "Looking for a GPU …");
    const button = el("button", { type: "button", disabled: true, onclick: () => input.click() }, "Open a GGUF file …");
    input.addEventListener("change", () => { if (input.files[0]) picked(add(input.files[0])); });
    ask("look", {}).then(({ vendor, architecture, description, fallback }) => {
        const name = description || [vendor, architecture].filter(Boolean).join(" ") || "a GPU that the browser does not name";
        gpu.textContent = `Models run in this browser on ${name}${fallback ? ", which is software and slow" : ""}. A file is read from the disk piece by piece and goes nowhere else.`;
        button.disabled = false;
    }, (e) => { gpu.textContent = e.message; });
    return el("section.card", { "aria-label": "This device" }, el("h3", {}, "This device"), gpu, button, input, lesson());
}
