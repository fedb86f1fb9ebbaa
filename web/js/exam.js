// The page Evaluate: questions asked of a model, and a table of what it got right.
import { $, el, number, released, toast } from "./ui.js";
import * as api from "./api.js";

const PATH = "v1/evaluations";
const draft = { model: "", suite: "curriculum", limit: "20", max_tokens: "512", mode: "generate", columns: "", text: "", file: "" };
const EXAMPLE = "{\"question\": \"What is 2 + 2?\", \"options\": [\"3\", \"4\", \"5\", \"6\"], \"answer\": \"B\"}";
const STATES = { queued: "It waits for its turn.", running: "It is asked.", completed: "It is done.", failed: "It failed: ", cancelled: "It was cancelled." };
const percent = (x) => `${(100 * x).toFixed(1)} %`;
const button = (label, onclick, what = "button") => el(what, { type: "button", onclick }, label);
const field = (label, key, props = {}) => el("label.field", {}, el("span", {}, label),
    el("input", { autocomplete: "off", ...props, value: draft[key], "data-key": key, oninput: (e) => { draft[key] = e.target.value; } }));
const choice = (label, key, all, onchange = () => {}) => el("label.field", {}, el("span", {}, label), el("select", { "data-key": key, onchange: (e) => { draft[key] = e.target.value; onchange(); } },
    all.map(([value, text]) => el("option", { value, selected: value === draft[key] }, text))));

export async function exam(root, alive) {
    const head = el("h2", {}, "Evaluate");
    const first = await api.get(`${PATH}?limit=32`);
    if (!alive()) return;
    const { models } = first;
    if (!models.includes(draft.model)) draft.model = models[0] ?? "";
    if (!models.length) { root.replaceChildren(head, el("section.card", {}, el("p", {}, "This server has no model that can be asked. Start it with “weft serve -m FILE.gguf”."))); return; }
    const said = el("div.said", { role: "status" });
    const list = el("div.jobs", { role: "region", "aria-label": "Evaluations" });
    const data = el("textarea.code", { rows: 6, value: draft.text, placeholder: EXAMPLE, "data-key": "text", oninput: () => { draft.text = data.value; draft.file = ""; } });
    const picker = el("input", { type: "file", hidden: true, accept: ".jsonl,.json,.ndjson,.csv,.tsv", "aria-label": "Questions", onchange: async () => {
        const [file] = picker.files;
        picker.value = "";
        if (!file) return;
        if (file.size > 15 << 20) { toast("A file may have 15 MiB here; “weft eval” on the command line takes larger ones."); return; }
        data.value = draft.text = await file.text();
        draft.file = file.name;
    } });
    const own = el("div.said", {}, el("label.field", {}, el("span", {}, "Questions, one a line, or a table with a line of names"), data), picker,
        el("div.ways", {}, button("Choose a file", () => picker.click()), button("Put in an example", () => { data.value = draft.text = EXAMPLE; draft.file = ""; data.focus(); })),
        el("div.grid", {}, choice("How answers are had", "mode", [["generate", "written out"], ["letter", "the likeliest letter"]]),
            field("Columns, if they have other names", "columns", { placeholder: "question=stem,options=a+b,answer=key:letter" })));
    const shown = () => { own.hidden = draft.suite !== "file"; };
    async function start() {
        const body = { model: draft.model, suite: draft.suite, limit: Number(draft.limit), max_tokens: Number(draft.max_tokens) };
        if (draft.suite === "file") {
            Object.assign(body, { content: draft.text, mode: draft.mode, filename: (draft.file || "questions.jsonl").replace(/[^\p{L}\p{N} _.()+,-]/gu, "_").replace(/^\.+/, "") });
            if (draft.columns.trim()) body.columns = draft.columns.trim();
        }
        try {
            await api.post(PATH, body);
            said.replaceChildren();
            await look();
        } catch (e) {
            said.replaceChildren(el("div.problem", {}, el("p", { role: "alert" }, e.message)));
        }
    }
    const cards = new Map();
    function draw(all) {
        for (const one of all) {
            const state = JSON.stringify(one);
            const old = cards.get(one.id);
            if (old?.state === state) continue;
            const node = card(one, look);
            // Who had the focus in the old card has it in the new one.
            const had = old?.node.contains(document.activeElement);
            if (old) old.node.replaceWith(node); else list.prepend(node);
            if (had) (node.querySelector("button") ?? root).focus();
            cards.set(one.id, { state, node });
        }
    }
    async function look() {
        const { data: all } = await api.get(`${PATH}?limit=32`);
        await released();
        if (alive()) draw([...all].reverse());
        return all;
    }
    const what = el("p", {}, "A model is asked questions whose answers are known, and the share that it gets right is told with its 95 % interval. Those of the curriculum are of mathematics, physics, chemistry and other exact subjects; yours come as text or as a file.");
    root.replaceChildren(head, what, el("section.card", { "aria-label": "New evaluation" },
        el("h3", {}, "New evaluation"),
        el("div.grid", {},
            choice("Model", "model", models.map((m) => [m, m])),
            choice("Questions", "suite", [["curriculum", "the curriculum's"], ["file", "of your own"]], shown),
            field("How many of each kind", "limit", { type: "number", min: 1, max: 10000 }),
            field("Most tokens of an answer", "max_tokens", { type: "number", min: 1, max: 32768 })),
        own, el("div.ways", {}, button("Start", start, "button.primary")), said), list);
    shown();
    draw([...first.data].reverse());
    watch();
    async function watch() {
        while (alive()) {
            await new Promise((resolve) => { setTimeout(resolve, 1000); });
            const live = [...cards.values()].some((c) => /"status":"(?:queued|running)"/.test(c.state));
            if (live && alive() && !document.hidden) await look().catch(() => {});
        }
    }
}

function card(one, look) {
    const live = one.status === "queued" || one.status === "running";
    const title = `${one.model}, ${one.suite.name === "file" ? one.suite.filename : "curriculum"}`;
    const kinds = Map.groupBy ? [...Map.groupBy(one.scores, (s) => s.kind)] : [...new Set(one.scores.map((s) => s.kind))].map((k) => [k, one.scores.filter((s) => s.kind === k)]);
    return el("article.card.job", { "data-exam": one.id },
        el("h3", {}, title),
        el(one.status === "failed" ? "p.wrong" : "p", {}, `${STATES[one.status]}${one.error ? `${one.error}.` : ""}${one.questions ? ` ${number(one.answered)} of ${number(one.questions)} questions are answered.` : ""}`),
        live && el("progress", { max: one.questions || 1, value: one.answered, "aria-label": "Questions answered" }),
        kinds.map(([kind, rows]) => el("div.table", { tabIndex: 0, role: "group", "aria-label": kind }, el("table", {}, el("caption", {}, kind),
            el("thead", {}, el("tr", {}, ["part", "right", "95 % interval", "questions"].map((t) => el("th", { scope: "col" }, t)))),
            el("tbody", {}, rows.map((s) => el("tr", {}, el("th", { scope: "row" }, s.part), el("td", {}, percent(s.share)), el("td", {}, `${percent(s.low)} to ${percent(s.high)}`), el("td", {}, number(s.total)))))))),
        live && el("div.ways", {}, button("Cancel", async () => {
            try { await api.post(`${PATH}/${one.id}/cancel`, {}); await look(); $("page").focus(); } catch (e) { toast(e.message); }
        })));
}
