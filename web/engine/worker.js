// The engine's worker: one model, one answer at a time. A message is {id, act, ...}; what comes back is
// {id, part} as often as there is something to tell, then {id, done} or {id, fault: {kind, message}}.
import init, { open } from "./weft.js";

let started = null;
let engine = null;
const stopped = new Set();
// Calls of the engine follow each other: it can do one thing at a time.
let last = Promise.resolve();

class Fault extends Error {
    constructor(kind, message) {
        super(message);
        this.kind = kind;
    }
}

// Says in a sentence why there is no GPU, before anything large is fetched.
async function look() {
    if (!isSecureContext) throw new Fault("no-gpu", "This browser has WebGPU for pages over https or from this machine alone.");
    if (!navigator.gpu) throw new Fault("no-gpu", "This browser has no WebGPU. Chrome and Edge have it, and Safari from version 26; Firefox has it on some systems.");
    let adapter = null;
    // A browser that has just started, on a busy machine, may have none yet.
    for (let tries = 0; !adapter && tries < 3; tries += 1) {
        if (tries) await new Promise((resolve) => { setTimeout(resolve, 700); });
        adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
    }
    if (!adapter) throw new Fault("no-gpu", "This browser has WebGPU but gives the page no GPU: it may be switched off in its settings, or its driver is on the browser's list of faulty ones.");
    const { vendor, architecture, description } = adapter.info;
    return { vendor, architecture, description, fallback: adapter.info.isFallbackAdapter ?? false };
}

// The file's bytes come in slices, so that no more of it is in memory than what is on its way to the GPU.
function source(blob) {
    const reader = new FileReaderSync();
    const read = { bytes: 0, most: 0 };
    const from = (at, bytes) => {
        read.bytes += bytes;
        read.most = Math.max(read.most, bytes);
        try {
            return new Uint8Array(reader.readAsArrayBuffer(blob.slice(at, at + bytes)));
        } catch {
            throw new Error("it cannot be read any more; it may have been moved or changed. Pick it again");
        }
    };
    return { from, read };
}

async function fetched(address, tell) {
    let response;
    try {
        response = await fetch(address);
    } catch {
        throw new Fault("fetch", `${address} cannot be fetched: the address does not answer.`);
    }
    if (!response.ok) throw new Fault("fetch", `${address} cannot be fetched: the answer has the status ${response.status}.`);
    const total = Number(response.headers.get("content-length")) || 0;
    let done = 0;
    const counted = new TransformStream({ transform(part, to) { done += part.byteLength; tell({ fetched: done, total }); to.enqueue(part); } });
    // The browser keeps a large Blob on the disk.
    return new Response(response.body.pipeThrough(counted)).blob();
}

const acts = {
    look: async () => look(),

    async open({ id, file, address, name, options = {} }, tell) {
        const device = await look();
        engine?.free();
        engine = null;
        const begin = performance.now();
        started ??= init({ module_or_path: new URL("./weft_bg.wasm", import.meta.url) });
        await started.catch((e) => { started = null; throw new Fault("wasm", `The engine cannot be loaded: ${e.message}`); });
        const blob = file ?? await fetched(address, tell);
        const { from, read } = source(blob);
        let shown = 0;
        const progress = (done, total) => {
            if (performance.now() - shown > 50 || done === total) { shown = performance.now(); tell({ loaded: done, total }); }
            return !stopped.has(id);
        };
        engine = await open(name ?? file?.name ?? address, blob.size, from, JSON.stringify(options), progress);
        const about = JSON.parse(engine.about());
        if (!about.device.name) about.device.name = [device.vendor, device.architecture, device.description].filter(Boolean).join(" ");
        return { ...about, file: { size: blob.size, read: read.bytes, most: read.most }, seconds: (performance.now() - begin) / 1000 };
    },

    async answer({ id, request }, tell) {
        if (!engine) throw new Fault("no-model", "No model is open on this device.");
        const begin = performance.now();
        let first = 0, lastAt = 0, tokens = 0;
        const prompt = (done, total) => { tell({ prompt: done, total }); return !stopped.has(id); };
        const each = (text) => {
            lastAt = performance.now();
            first ||= lastAt;
            tokens++;
            tell({ text });
            return !stopped.has(id);
        };
        const end = JSON.parse(await engine.answer(JSON.stringify(request), prompt, each));
        const rate = tokens > 1 ? (tokens - 1) / ((lastAt - first) / 1000) : null;
        return { ...end, first: first ? (first - begin) / 1000 : null, rate, seconds: (performance.now() - begin) / 1000 };
    },

    async logits({ request }) {
        if (!engine) throw new Fault("no-model", "No model is open on this device.");
        return { tokens: engine.tokens(JSON.stringify(request)), logits: await engine.logits(JSON.stringify(request)) };
    },

    async tune({ id, examples, settings }, tell) {
        if (!engine) throw new Fault("no-model", "No model is open on this device.");
        const begin = performance.now();
        const each = (step, steps, loss) => { tell({ step, steps, loss }); return !stopped.has(id); };
        const end = JSON.parse(await engine.tune(examples, JSON.stringify(settings ?? {}), each));
        return { ...end, seconds: (performance.now() - begin) / 1000 };
    },

    async close() {
        engine?.free();
        engine = null;
        return {};
    },
};

async function run(message) {
    const { id, act } = message;
    const tell = (part) => postMessage({ id, part });
    try {
        if (stopped.has(id)) throw new Fault("cancelled", "It was cancelled.");
        postMessage({ id, done: await acts[act](message, tell) });
    } catch (e) {
        postMessage({ id, fault: { kind: stopped.has(id) ? "cancelled" : e.kind ?? "engine", message: e.message ?? String(e) } });
    } finally {
        stopped.delete(id);
    }
}

onmessage = ({ data }) => {
    if (data.act === "stop") {
        stopped.add(data.which);
        return;
    }
    last = last.then(() => run(data));
};
