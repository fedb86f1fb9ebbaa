// The pages beside the chat. Models and Device: what the server says of itself, and nothing that it does not.
import { bytes, copyText, el, number, plural } from "./ui.js";
import * as api from "./api.js";
import { documentsPage } from "./documents.js";
import { exam } from "./exam.js";
import { pulls as pullSection } from "./pulls.js";
import { tune } from "./tune.js";
import { machines } from "./machines.js";
import { checks, memoryPlan, quantise } from "./tasks.js";

const table = (rows) => el("dl", {}, rows.filter(([, v]) => v !== undefined && v !== null && v !== "")
    .map(([k, v]) => el("div", {}, el("dt", {}, k), el("dd", {}, String(v)))));

export const TITLES = { documents: "Documents", models: "Models", tune: "Fine-tune", exam: "Evaluate", device: "Device" };

// Only the page that was asked for last is drawn, and watched as long as it is there.
let turn = 0;
export const leave = () => { turn += 1; };

export async function show(root, name, retry, { trial, ask, changed }) {
    turn += 1;
    const mine = turn;
    root.setAttribute("aria-label", TITLES[name]);
    root.replaceChildren(el("h2", {}, TITLES[name]), el("p", {}, "Asking the server …"));
    try {
        if (name === "exam") { await exam(root, () => mine === turn); return; }
        const { models, props, pulls } = await api.facts();
        const slots = name === "models" ? await api.get("slots").catch(() => null) : null;
        if (mine !== turn) return;
        if (name === "tune") { tune(root, props, () => mine === turn, trial); return; }
        if (name === "documents") {
            await documentsPage(root, props.documents, () => mine === turn, ask);
            return;
        }
        root.replaceChildren(el("h2", {}, TITLES[name]), ...(name === "models" ? modelCards(models, props, slots) : device(props)));
        const here = () => mine === turn;
        if (name === "models" && pulls) root.append(pullSection(here, changed));
        if (name === "models" && props.tasks) root.append(memoryPlan(props.tasks, here), quantise(props.tasks, here, changed));
        if (name === "models") watchLoad(root, mine);
        else root.append(props.tasks ? checks(props.tasks, here) : "", machines());
    } catch (e) {
        if (mine !== turn) return;
        root.replaceChildren(el("h2", {}, TITLES[name]), el("div.problem", {}, el("p", { role: "alert" }, e.message),
            el("div.ways", {}, el("button", { type: "button", onclick: retry }, "Try again"))));
    }
}

// What each model does now, asked for every two seconds while somebody looks.
async function watchLoad(root, mine) {
    const before = new Map();
    while (mine === turn) {
        const all = document.hidden ? {} : await api.metrics().catch(() => ({}));
        if (mine !== turn || !all) return;
        const now = performance.now();
        for (const [model, m] of Object.entries(all)) {
            const place = [...root.querySelectorAll("[data-load]")].find((n) => n.dataset.load === model);
            if (!place) continue;
            const old = before.get(model);
            const rate = old ? ((m.tokens_generated_total - old.tokens) * 1000) / (now - old.now) : 0;
            before.set(model, { tokens: m.tokens_generated_total, now });
            place.replaceChildren(table([
                ["Answers now", m.requests_running],
                ["Waiting", m.requests_waiting],
                ["Tokens a second now", number(Math.round(rate))],
                ["Cache in use", m.kv_blocks && `${Math.round((100 * m.kv_blocks_used) / m.kv_blocks)} %`],
                ["Answers so far", m.requests_finished_total],
                ["Tokens so far", number(m.tokens_generated_total ?? 0)],
                ["Prompt tokens from the cache", m.prompt_tokens_total && `${Math.round((100 * m.prompt_tokens_cached_total) / m.prompt_tokens_total)} %`],
                ["Failed", m.requests_failed_total || null],
            ]));
        }
        await new Promise((resolve) => { setTimeout(resolve, 2000); });
    }
}

function modelCards(models, props, slots) {
    const own = api.device?.chooser();
    if (!models.length) return [own ?? "", el("p", {}, "The server has no model loaded. Start it with “weft serve -m FILE.gguf”.")];
    const busy = Array.isArray(slots) ? slots.filter((s) => s.is_processing).length : null;
    const cards = models.map((m) => {
        const meta = m.meta ?? {};
        const named = { n_ctx: "Context", n_ctx_train: "Trained context", n_vocab: "Vocabulary", n_params: "Parameters", n_embd: "Embedding", size: "Size" };
        const shown = (k, v) => (k === "size" ? bytes(v) : /^n_ctx/.test(k) ? plural(v, "token") : value(k, v));
        return el("section.card", { "aria-label": m.id }, el("h3", {}, m.id), table([
            ["Owned by", m.owned_by],
            ["State", m.status?.value ?? m.state],
            ["Gives", meta.answers === false ? "vectors or scores" : meta.answers && "answers"],
            ...Object.entries(meta).filter(([k, v]) => v !== null && v !== "" && k !== "answers").map(([k, v]) => [named[k] ?? words(k), shown(k, v)]),
        ]), el("div", { "data-load": m.id }));
    });
    if (own) cards.unshift(own);
    const settings = props.default_generation_settings;
    cards.push(el("section.card", { "aria-label": "Serving" }, el("h3", {}, "Serving"), table([
        ["Context of a chat", settings?.n_ctx && plural(settings.n_ctx, "token")],
        ["Slots", props.total_slots],
        ["Slots at work", busy],
        ["Server", props.build_info],
    ])));
    const caps = props.chat_template_caps;
    if (caps) {
        cards.push(el("section.card", { "aria-label": "Conversation" }, el("h3", {}, "Conversation"), table([
            ["Chat template", caps.is_fallback ? "ChatML, since the file has none" : "the file's own"],
            ["Tools", caps.supports_tools ? "in the template" : "not in the template"],
            ["Thinking", caps.supports_thinking_switch ? "can be switched" : "has no switch"],
        ])));
    }
    if (props.chat_template) {
        cards.push(el("details.card", {}, el("summary", {}, "Chat template"), el("pre", { tabIndex: 0 }, props.chat_template)));
    }
    return cards;
}

// Names such as max_buffer_size as words.
const words = (name) => name.replace(/_/g, " ").replace(/^./, (c) => c.toUpperCase());

const FEATURES = { f16: "16-bit floats", dot: "Dot product of bytes", coop: "Cooperative matrices", timestamps: "Timestamps", subgroups: "Subgroups" };

function device(props) {
    const d = props.device;
    if (!d) return [el("p", {}, "This server says nothing about its device. “weft devices” lists what is there.")];
    const simple = Object.entries(d).filter(([k, v]) => k !== "name" && v !== null && typeof v !== "object");
    const cards = [el("div.ways", {}, el("button", { type: "button", onclick: () => copyText(report(props)) }, "Copy a report for an issue")),
        el("section.card", { "aria-label": "Adapter" }, el("h3", {}, d.name ?? "Adapter"),
        table(simple.map(([k, v]) => [words(k), k === "vendor" ? `0x${Number(v).toString(16)}` : value(k, v)])))];
    if (d.features) {
        cards.push(el("section.card", { "aria-label": "Features" }, el("h3", {}, "Features"),
            table(Object.entries(d.features).map(([k, v]) => [FEATURES[k] ?? words(k), feature(v)]))));
    }
    if (d.limits) {
        cards.push(el("section.card", { "aria-label": "Limits" }, el("h3", {}, "Limits"),
            table(Object.entries(d.limits).map(([k, v]) => [words(k), value(k, v)]))));
    }
    return cards;
}

// What somebody who looks for a fault needs to know of server and device; nothing that was said, and no path.
export function report(props) {
    const { name, kind, backend, driver, features, limits } = props.device;
    return ["```", `server   ${props.build_info ?? "unknown"}`, `browser  ${navigator.userAgent}`,
        `device   ${name}, ${kind}, ${backend}, ${driver}`, `features ${JSON.stringify(features)}`, `limits   ${JSON.stringify(limits)}`,
        `models   ${(props.models ?? []).join(", ")}`, "```"].join("\n");
}

function feature(v) {
    if (v === null || v === false || (Array.isArray(v) && !v.length)) return "no";
    if (v === true) return "yes";
    if (!Array.isArray(v)) return String(v);
    if (typeof v[0] === "number") return v[0] === v[1] ? String(v[0]) : v.join(" to ");
    return [...new Set(v.map((c) => `${c.m} × ${c.n} × ${c.k}`))].join(", ");
}

function value(key, v) {
    if (typeof v === "boolean") return v ? "yes" : "no";
    if (typeof v !== "number") return typeof v === "object" ? JSON.stringify(v) : v;
    return /(?:buffer_size|binding_size|storage_size|bytes|memory)/.test(key) && v >= 1024 ? `${bytes(v)} (${number(v)})` : number(v);
}
