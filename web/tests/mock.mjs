// A server that answers as `weft serve` does, for the page's tests: it serves web/ under the policy of csp.txt, and says
// what a test tells it to.
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

export const web = join(dirname(fileURLToPath(import.meta.url)), "..");
export const csp = readFileSync(join(web, "csp.txt"), "utf8").trim();

const TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml", ".png": "image/png", ".webmanifest": "application/manifest+json",
};
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const PROPS = {
    default_generation_settings: { n_ctx: 2048, params: { temperature: 0, top_k: 40, top_p: 0.95, min_p: 0.05, n_predict: -1 } },
    total_slots: 4,
    build_info: "weft 0.1.0",
    chat_template_caps: { is_fallback: false, supports_tools: true, supports_thinking_switch: true },
    chat_template: "{% for m in messages %}{{ m.content }}{% endfor %}",
    device: {
        name: "llvmpipe (LLVM 15.0.6, 256 bits)", kind: "cpu", backend: "vulkan", driver: "llvmpipe Mesa 22.3.6", vendor: 65541, memory: null,
        features: { f16: true, subgroups: [8, 8], dot: true, coop: [], timestamps: true },
        limits: { max_storage_buffer_binding_size: 134217728, max_buffer_size: 2147483647, max_compute_workgroups_per_dimension: 65535, max_compute_workgroup_storage_size: 32768, max_compute_invocations_per_workgroup: 1024 },
    },
};
const MODEL = { id: "weft-mini", object: "model", created: 1, owned_by: "weft", meta: { n_ctx: 2048, n_ctx_train: 2048, n_params: 11000000, size: 9000000 } };

export class Mock {
    constructor() {
        this.requests = [];
        this.plans = [];
        this.models = [MODEL];
        this.props = PROPS;
        // What else a test has the server answer: {"METHOD /path": ({entry, res, json}) => ...}.
        this.routes = {};
        this.server = createServer((req, res) => this.handle(req, res).catch((e) => { res.destroy(e); }));
        this.sockets = new Set();
        this.server.on("connection", (s) => { this.sockets.add(s); s.on("close", () => this.sockets.delete(s)); });
    }

    async start(port = 0) {
        await new Promise((resolve) => this.server.listen(port, "127.0.0.1", resolve));
        this.port = this.server.address().port;
        this.url = `http://127.0.0.1:${this.port}/`;
        return this;
    }

    async stop() {
        for (const s of this.sockets) s.destroy();
        await new Promise((resolve) => this.server.close(resolve));
    }

    // The next answers, one a request: {text, thinking, calls, rate, status, error, headers, cut, fault, usage, chunk}.
    plan(...plans) { this.plans.push(...plans); }

    get chats() { return this.requests.filter((r) => r.path === "/v1/chat/completions"); }

    async handle(req, res) {
        const path = new URL(req.url, "http://x").pathname;
        let body = "";
        for await (const part of req) body += part;
        const entry = { method: req.method, path, query: new URL(req.url, "http://x").searchParams, body: /json/.test(req.headers["content-type"]) ? JSON.parse(body) : body || null, headers: req.headers };
        this.requests.push(entry);
        const json = (status, value, headers = {}) => {
            res.writeHead(status, { "content-type": "application/json", "x-request-id": "req-1", ...headers });
            res.end(JSON.stringify(value));
        };
        const route = this.routes[`${req.method} ${path}`];
        if (route) return route({ entry, res, json });
        if (path === "/health") return json(200, { status: "ok" });
        if (path === "/v1/models") return json(200, { object: "list", data: this.models });
        if (path === "/props") return json(200, this.props);
        if (path === "/v1/machines") return json(200, { object: "list", name: "mock", data: [], guests: [], listens: null, open: false, may_change: true });
        if (path === "/slots") return json(200, [{ id: 0, is_processing: false }, { id: 1, is_processing: true }]);
        if (path === "/metrics") {
            this.tokens = (this.tokens ?? 1000) + 90;
            const values = { requests_running: 1, requests_waiting: 0, tokens_generated_total: this.tokens, kv_blocks: 64, kv_blocks_used: 16, requests_finished_total: 12, prompt_tokens_total: 400, prompt_tokens_cached_total: 100, requests_failed_total: 0 };
            res.writeHead(200, { "content-type": "text/plain; version=0.0.4" });
            res.end(Object.entries(values).map(([k, v]) => `# TYPE weft_${k} gauge\nweft_${k}{model="weft-mini"} ${v}\n`).join(""));
            return;
        }
        if (path.startsWith("/v1/documents")) return this.document(entry, json);
        if (path === "/v1/chat/completions") return this.answer(entry, req, res, json);
        return this.file(path, res);
    }

    // Documents as a list of {id, name, text}; `documents` is null where the server keeps none.
    async document({ method, path, body }, json) {
        const value = (d) => ({ id: d.id, object: "document", name: d.name, kind: "text", bytes: d.text.length, pages: d.pages ?? null, passages: 3, tokens: 99, created: 1 });
        if (path === "/v1/documents/search") {
            const words = body.query.toLowerCase().match(/\w{4,}/g) ?? [];
            const data = this.documents.map((d) => ({ document: d.id, name: d.name, passage: 0, page: d.pages ? 2 : null, heading: "", text: d.text, score: words.filter((w) => d.text.toLowerCase().includes(w)).length }))
                .sort((a, b) => b.score - a.score).slice(0, body.top_n ?? 5);
            return this.searchFault ? json(500, { error: this.searchFault }) : json(200, { object: "list", data });
        }
        if (method === "GET") return json(200, { object: "list", data: this.documents.map(value), adding: this.adding ?? [], embedder: "minilm", reranker: null });
        if (method === "DELETE") {
            this.documents = this.documents.filter((d) => d.id !== path.split("/").at(-1));
            return json(200, { deleted: true });
        }
        const text = Buffer.from(body.content, "base64").toString("utf8");
        if (text.includes("\0")) return json(400, { error: { message: `${body.name}: it is neither text (UTF-8 or UTF-16) nor PDF, which are what is read here`, code: "unreadable_document" } });
        this.adding = [{ name: body.name, passages_done: 1, passages: 3 }];
        await (this.slow ?? sleep(20));
        this.adding = [];
        const d = { id: `doc-${this.documents.length + 1}`, name: body.name, text, pages: body.name.endsWith(".pdf") ? 2 : null };
        this.documents.push(d);
        return json(200, { ...value(d), known: false });
    }

    // From now on the server keeps documents.
    keep(documents) {
        this.documents = documents;
        this.props = { ...this.props, documents: { embedder: "minilm", reranker: null } };
    }

    file(path, res) {
        const name = normalize(path === "/" ? "/index.html" : path);
        if (/^\/(?:tests|screens|engine|wasm|bundle|dist)\//.test(name)) { res.writeHead(404).end(); return; }
        try {
            const data = readFileSync(join(web, name));
            res.writeHead(200, {
                "content-type": TYPES[extname(name)] ?? "application/octet-stream", "content-security-policy": csp,
                "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-cache",
            });
            res.end(data);
        } catch {
            res.writeHead(404).end();
        }
    }

    async answer(entry, req, res, json) {
        const plan = this.plans.shift() ?? { text: "The answer is 42." };
        if (plan.status) return json(plan.status, { error: plan.error ?? { message: "no" } }, plan.headers);
        entry.open = true;
        res.on("close", () => { entry.open = false; entry.left = !res.writableFinished; });
        res.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
        const base = { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model: entry.body.model };
        const send = (delta, finish = null) => res.write(`data: ${JSON.stringify({ ...base, choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`);
        send({ role: "assistant", content: "" });
        for (const processed of plan.progress ?? []) {
            res.write(`data: ${JSON.stringify({ ...base, choices: [{ index: 0, delta: {}, finish_reason: null }], prompt_progress: { processed, total: 1000 } })}\n\n`);
            await sleep(150);
        }
        const every = plan.rate ? 1000 / plan.rate : 0;
        let sent = 0;
        const start = performance.now();
        const pace = async () => {
            sent += 1;
            if (!every) { if (sent % 50 === 0) await sleep(0); return; }
            const ahead = start + sent * every - performance.now();
            if (ahead > 1) await sleep(ahead);
        };
        const pieces = (text) => (Array.isArray(text) ? text : text.match(plan.chunk ?? /\s*\S+|\s+$/g) ?? []);
        for (const p of pieces(plan.thinking ?? "")) { if (!entry.open) return; send({ reasoning_content: p }); await pace(); }
        for (const p of pieces(plan.text ?? "")) {
            if (!entry.open) return;
            send({ content: p });
            await pace();
        }
        for (const [index, c] of (plan.calls ?? []).entries()) {
            send({ tool_calls: [{ index, id: c.id, type: "function", function: { name: c.name, arguments: "" } }] });
            for (const p of c.arguments.match(/.{1,7}/gs) ?? []) send({ tool_calls: [{ index, function: { arguments: p } }] });
        }
        entry.rate = (sent * 1000) / (performance.now() - start);
        if (plan.hold) { await plan.hold; }
        if (plan.cut) { if (plan.cut === "reset") { await sleep(100); res.destroy(); } else res.end(); return; }
        if (plan.fault) { res.end(`data: ${JSON.stringify({ error: plan.fault })}\n\n`); return; }
        send({}, plan.finish ?? (plan.calls ? "tool_calls" : "stop"));
        if (entry.body.stream_options?.include_usage) {
            const usage = plan.usage ?? { prompt_tokens: 20, completion_tokens: sent, total_tokens: 20 + sent, prompt_tokens_details: { cached_tokens: 0 } };
            if (plan.took) usage.x_weft = plan.took;
            res.write(`data: ${JSON.stringify({ ...base, choices: [], usage })}\n\n`);
        }
        res.end("data: [DONE]\n\n");
    }
}

// By hand: node mock.mjs [PORT].
if (process.argv[1] === fileURLToPath(import.meta.url)) {
    const mock = await new Mock().start(Number(process.argv[2] ?? 8081));
    console.log(mock.url);
}
