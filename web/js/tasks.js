// Work that the server does on request: the memory of a model before it is loaded, a model in a smaller type, and what
// checks and measures the device.
import { bytes, el, number, plural, released, svg, toast } from "./ui.js";
import * as api from "./api.js";

const PATH = "v1/tasks";
const draft = { plan: { model: "", context: "", slots: "", cache_type: "" }, small: { model: "", type: "Q4_K_M", name: "", requantize: false }, bench: "", thorough: {} };
const button = (label, onclick, what = "button", more = {}) => el(what, { type: "button", onclick, ...more }, label);
const rows = (all) => el("dl", {}, all.filter(([, v]) => v).map(([k, v]) => el("div", {}, el("dt", {}, k), el("dd", {}, String(v)))));
const field = (label, input) => el("label.field", {}, el("span", {}, label), input);
const select = (all, value, onchange, key, label) => el("select", { "data-key": key, "aria-label": label, onchange: (e) => onchange(e.target.value) }, all.map((o) => {
    const [v, text] = Array.isArray(o) ? o : [o, o];
    return el("option", { value: v, selected: v === value }, text);
}));
const grid = (caption, heads, lines) => el("div.table", { tabIndex: 0, role: "group", "aria-label": caption }, el("table", {}, el("caption", {}, caption),
    el("thead", {}, el("tr", {}, heads.map((t) => el("th", { scope: "col" }, t)))), el("tbody", {}, lines)));
const line = (head, ...cells) => el("tr", {}, el("th", { scope: "row" }, head), cells.map((c) => el("td", {}, c)));
const wrong = (place, e, again) => place.replaceChildren(el("div.problem", {}, el("p", { role: "alert" }, e.message), again && el("div.ways", {}, button("Try again", again))));

// What a model would take, asked again whenever something is chosen.
export function memoryPlan({ models }, here) {
    const d = draft.plan;
    if (!models.includes(d.model)) d.model = models[0] ?? "";
    const said = el("div.said", { role: "status" });
    let turn = 0;
    async function plan() {
        turn += 1;
        const mine = turn;
        const wish = { model: d.model };
        for (const key of ["context", "slots"]) if (d[key]) wish[key] = Number(d[key]);
        if (d.cache_type) wish.cache_type = d.cache_type;
        try {
            const p = await api.post("v1/memory", wish);
            if (mine !== turn || !here()) return;
            context.placeholder = `${p.context}`;
            slots.placeholder = `${p.slots ?? ""}`;
            said.replaceChildren(rows([
                ["Weights", bytes(p.weights)],
                ["Cache", p.cache && `${bytes(p.cache)}, for ${p.slots ? `${plural(p.slots, "answer")} of ` : ""}${plural(p.context, "token")}`],
                ["While it computes", bytes(p.activations + p.state)],
                ["In all", bytes(p.total)],
                ["In use now", p.taken ? bytes(p.taken) : ""],
                ["Memory of the device", p.available ? bytes(p.available) : "not told"],
            ]), el(p.fits === false ? "p.wrong" : "p", {}, verdict(p)));
        } catch (e) {
            if (mine === turn && here()) wrong(said, e, plan);
        }
    }
    const count = (key, most) => el("input", { type: "number", min: 1, max: most, value: d[key], "data-key": key, oninput: (e) => { d[key] = e.target.value; }, onchange: plan });
    const context = count("context", 1 << 24);
    const slots = count("slots", 256);
    if (models.length) plan();
    return el("section.card", { "aria-label": "Memory plan" }, el("h3", {}, "Will it fit?"),
        models.length ? [el("p", {}, "What a model takes of the device's memory, before it is loaded. A longer context and more answers at a time make the cache larger; a cache in fewer bits makes it smaller."),
            el("div.grid", {}, field("Model", select(models, d.model, (v) => { d.model = v; plan(); }, "plan-model")), field("Tokens of an answer, prompt included", context),
                field("Answers at a time", slots), field("Cache", select([["", "as the server has it"], ["f32", "32 bits"], ["f16", "16 bits"], ["q8_0", "8 bits"], ["q4_0", "4 bits"]], d.cache_type, (v) => { d.cache_type = v; plan(); }, "cache"))), said]
            : el("p", {}, "This server has no file of a model. Start it with “weft serve -m FILE.gguf” or “weft serve --models DIR”."));
}

function verdict(p) {
    const beyond = p.context > p.trained ? ` It was trained for ${plural(p.trained, "token")}; what lies beyond is likely to make no sense.` : "";
    if (p.open) return `It is open now, and is part of what is in use.${beyond}`;
    if (p.fits === null) return `${p.device} does not say how much memory it has.${beyond}`;
    return p.fits ? `It fits on ${p.device}.${beyond}` : `It does not fit on ${p.device}: choose a shorter context, fewer answers at a time, a cache in fewer bits, or a smaller type of the model.${beyond}`;
}

// The list of work of some kinds, kept up to date as long as `here()`.
class Work {
    constructor(kinds, here, changed = () => {}) {
        Object.assign(this, { kinds, here, changed, cards: new Map(), over: null });
        this.root = el("div.jobs", { role: "region", "aria-label": "Work of the server" });
        this.watch();
    }

    async watch() {
        let last = [];
        while (this.here()) {
            if (!document.hidden && (this.due || !this.known || last.some(live))) last = await this.look().catch(() => last);
            await new Promise((resolve) => { setTimeout(resolve, 500); });
        }
    }

    async look() {
        this.due = false;
        const all = (await api.get(`${PATH}?limit=32`)).data.filter((t) => this.kinds.includes(t.kind));
        await released();
        if (!this.here()) return all;
        const done = all.filter((t) => t.status === "completed").length;
        const more = this.known && done > this.over;
        [this.known, this.over] = [true, done];
        for (const task of [...all].reverse()) {
            const state = JSON.stringify(task);
            const old = this.cards.get(task.id);
            if (old?.state === state) continue;
            const node = this.card(task);
            const had = old?.node.contains(document.activeElement);
            if (old) old.node.replaceWith(node); else this.root.prepend(node);
            if (had) (node.querySelector("button") ?? document.getElementById("page")).focus();
            this.cards.set(task.id, { state, node });
        }
        // A server that was started anew knows nothing of what it did before.
        for (const [id, { node, state }] of this.cards) {
            if (all.some((t) => t.id === id)) continue;
            if (live(JSON.parse(state))) toast("The server was started anew, and what it was doing is lost. Begin it again.");
            node.remove();
            this.cards.delete(id);
        }
        if (more) this.changed();
        return all;
    }

    // Begins a piece of work; what is wrong with it is said in `said`.
    async begin(task, said) {
        try {
            await api.post(PATH, task);
            said.replaceChildren();
            await this.look();
            this.due = true;
        } catch (e) {
            wrong(said, e);
        }
    }

    card(t) {
        const text = { queued: "It waits for its turn.", running: t.now ? `It is at ${t.now}.` : "It begins.", completed: "", failed: `It failed: ${t.error}.`, cancelled: "It was cancelled." }[t.status];
        return el("article.card.job", { "data-task": t.id, "data-status": t.status }, el("h3", {}, TITLES[t.kind](t)),
            text && el(t.status === "failed" ? "p.wrong" : "p", {}, text),
            live(t) && el("progress", { max: t.of || 1, value: t.of ? t.done : 0, "aria-label": TITLES[t.kind](t) }),
            t.result && RESULTS[t.kind](t.result, t),
            live(t) && el("div.ways", {}, button("Cancel", async () => {
                try { await api.post(`${PATH}/${t.id}/cancel`, {}); await this.look(); this.due = true; } catch (e) { toast(e.message); }
            })));
    }
}

const live = (t) => t.status === "queued" || t.status === "running";
const TITLES = {
    quantize: (t) => `${t.model} as ${t.type}`, kernels: () => "Kernel test", roofline: () => "Roofline", tune: () => "Tuning", bench: (t) => `Speed of ${t.model}`,
};
const percent = (x) => `${(100 * x).toFixed(x < 0.1 ? 1 : 0)} %`;
const us = (t) => `${t < 10 ? t.toFixed(2) : t < 1000 ? t.toFixed(0) : number(Math.round(t))} µs`;
const gb = (x) => `${(x / 1e9).toFixed(x < 1e11 ? 1 : 0)} GB/s`;
const flops = (x) => (x < 1e12 ? `${(x / 1e9).toFixed(x < 1e11 ? 1 : 0)} GFLOP/s` : `${(x / 1e12).toFixed(1)} TFLOP/s`);
const RESULTS = {
    quantize: (r, t) => el("p", {}, `It is there, as ${t.name}: ${bytes(r.bytes)} in place of ${bytes(r.bytes_before)}.`),
    kernels: (r) => [
        el(r.failed ? "p.wrong" : "p", {}, r.failed
            ? `${plural(r.failed, "case")} of ${number(r.passed + r.failed)} failed: what this device computes is not to be trusted there. Please file an issue with the report above and these lines.`
            : `All is right: ${plural(r.passed, "case")} of ${plural(r.ops, "operation")} gave what they should.`),
        r.unsupported ? el("p.note", {}, `${plural(r.unsupported, "case")} are for features that this device has not.`) : "",
        r.failures.length ? grid("What failed", ["Operation", "Type", "Case", "How"], r.failures.map((f) => line(`${f.op} ${f.variant}`, f.type ?? "f32", f.case, f.detail))) : "",
    ],
    roofline: (r) => [
        el("p", {}, `A copy moves ${gb(r.copy_bytes_per_s)}; the fastest product, ${r.fastest}, does ${flops(r.matrix_flops_per_s)}. Under the slope the memory is what a kernel waits for, under the flat part arithmetic; the nearer a dot is to the line, the less there is to gain.`),
        roof(r),
        el("p.note.legend", {}, el("span.train", {}, "● products"), " ", el("span.valid", {}, "● attention and all else")),
        el("details", {}, el("summary", {}, `The numbers of ${plural(r.rows.length, "kernel")}`), grid("Kernels", ["Kernel", "Type", "Shape", "Time", "Of a copy", "Of the best product"],
            r.rows.map((k) => line(`${k.op} ${k.variant}`, k.type, k.shape, us(k.seconds * 1e6), percent(k.of_copy), percent(k.of_matrix))))),
    ],
    tune: (r) => [
        el("p", {}, r.faster
            ? `${plural(r.faster, "kernel")} of ${number(r.rows.length)} ${r.faster === 1 ? "is" : "are"} faster with other constants. These are kept, and count from the next start of the server on; “weft tune --remove” takes them back.`
            : `Nothing is faster than the defaults on this device, out of ${plural(r.rows.length, "kernel")}; they stay.`),
        r.not_measured ? el("p.note", {}, `${plural(r.not_measured, "kernel")} were left out, for want of time or memory.`) : "",
        r.faster ? grid("What is faster", ["Kernel", "Type", "Shape", "Before", "Now"], r.rows.filter((k) => k.gains).map((k) => line(k.op, k.type, k.shape, us(k.default_us), us(k.best_us)))) : "",
    ],
    bench: (r) => grid("Tokens a second", ["What it does", "Tokens a second", "± of it", "Of what the memory allows", "Of what arithmetic allows"], r.rows.map((b) => line(
        b.n_prompt ? `reading a prompt of ${b.n_prompt}` : `writing ${b.n_gen}`, number(Number(b.avg_ts.toPrecision(3))), number(Number(b.stddev_ts.toPrecision(2))),
        b.of_copy ? percent(b.of_copy) : "", b.of_matrix ? percent(b.of_matrix) : ""))),
};

// Kernels under the device's roof, on scales of powers of ten.
function roof({ rows: all, copy_bytes_per_s: copy, matrix_flops_per_s: matrix }) {
    const dots = all.map((k) => [k.flops_per_s / k.bytes_per_s, k.flops_per_s, k]).filter(([x, y]) => x > 0 && Number.isFinite(x) && y > 0);
    const log = Math.log10;
    const [left, right] = [Math.floor(Math.min(-1, ...dots.map((d) => log(d[0])))), Math.ceil(Math.max(2, ...dots.map((d) => log(d[0]))))];
    const top = Math.ceil(log(Math.max(matrix, ...dots.map((d) => d[1]))));
    const bottom = Math.min(Math.floor(Math.min(...dots.map((d) => log(d[1])), log(matrix) - 3)), top - 3);
    // As wide as it is shown, so that its words keep their size.
    const [w, h, x0, y0] = [Math.max(240, Math.min(640, innerWidth - 76)), 260, 48, 12];
    const x = (v) => x0 + ((log(v) - left) / (right - left)) * (w - x0 - 12);
    const y = (v) => y0 + ((top - log(v)) / (top - bottom)) * (h - y0 - 40);
    const ridge = matrix / copy;
    const start = Math.max(10 ** left, 10 ** bottom / copy);
    const powers = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
    const text = (tx, ty, anchor, t) => svg("text", { x: tx, y: ty, "text-anchor": anchor }, t);
    return svg("svg", { class: "curve roof", viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": `${all.length} kernels under the roofline of this device; their numbers are in the table below` },
        svg("path", { class: "axis", d: powers(bottom, top).map((p) => `M${x0} ${y(10 ** p)}H${w - 12}`).join("") + powers(left, right).map((p) => `M${x(10 ** p)} ${y0}V${h - 40}`).join("") }),
        ...powers(bottom, top).map((p) => text(x0 - 6, y(10 ** p) + 4, "end", p >= 12 ? `${10 ** (p - 12)} T` : p >= 9 ? `${10 ** (p - 9)} G` : `${10 ** (p - 6)} M`)),
        ...powers(left, right).map((p) => text(x(10 ** p), h - 24, p === right ? "end" : "middle", `${p < 0 ? (10 ** p).toFixed(-p) : 10 ** p}`)),
        text(x0, h - 6, "start", "FLOP/s, by operations for each byte"),
        svg("path", { d: `M${x(start)} ${y(start * copy)}L${x(ridge)} ${y(matrix)}H${w - 12}` }),
        ...dots.map(([dx, dy, k]) => svg("circle", { class: k.op.startsWith("matmul") ? "product" : "", cx: x(dx), cy: y(dy), r: 3.5 }, svg("title", {}, `${k.op} ${k.variant} ${k.type}, ${k.shape}: ${us(k.seconds * 1e6)}`))));
}

// What can be checked and measured of the device.
const CHECKS = {
    kernels: ["Test the kernels", "Compares what this device computes with references in double precision. It takes a minute or two; everything takes much longer.", "Every case, and not a part"],
    roofline: ["Draw the roofline", "Measures kernels beside what the device reaches at best, to see where time goes.", "Every type, and for longer"],
    tune: ["Tune", "Looks for settings of the kernels that are faster on this device, and keeps them for later starts. It changes speed alone.", "Every kernel, up to two minutes"],
};
export function checks({ models, kinds }, here) {
    if (!kinds.includes("kernels")) return "";
    const work = new Work(["kernels", "roofline", "tune", "bench"], here);
    const said = el("div.said", { role: "status" });
    if (!models.includes(draft.bench)) draft.bench = models[0] ?? "";
    const one = ([kind, [label, about, more]]) => {
        const all = el("input", { type: "checkbox", checked: draft.thorough[kind], "aria-label": `${label}: ${more}`, onchange: () => { draft.thorough[kind] = all.checked; } });
        return el("li", {}, el("p", {}, about), el("div.ways", {}, button(label, () => work.begin({ kind, thorough: all.checked }, said)), el("label.check", {}, all, more)));
    };
    const bench = models.length ? el("li", {}, el("p", {}, "Measures how fast a model reads a prompt and writes an answer."),
        el("div.ways", {}, button("Measure the speed", () => work.begin({ kind: "bench", model: draft.bench }, said)), select(models, draft.bench, (v) => { draft.bench = v; }, "bench-model", "Model to measure"))) : "";
    return el("section.card", { "aria-label": "Check and measure" }, el("h3", {}, "Check and measure"),
        el("p", {}, "One at a time, on the server. Answers go on meanwhile, but they are slower, and so is what is measured."),
        el("ul.pulls.checks", {}, ...Object.entries(CHECKS).filter(([kind]) => kinds.includes(kind)).map(one), bench), said, work.root);
}

// A model in a smaller type: what each would take, then the work.
export function quantise({ models, kinds }, here, changed) {
    const head = el("h3", {}, "Make a model smaller");
    const about = el("p", {}, "Quantising stores weights in fewer bits: the model takes less memory, is faster, and errs a little more. Q4_K_M is what most people take; Q8_0 is all but exact.");
    const card = (...parts) => el("section.card", { "aria-label": "Make a model smaller" }, head, about, ...parts);
    if (!kinds.includes("quantize")) {
        return card(el("p", {}, "This server writes no models. Start it with ", el("code", {}, "weft serve --models DIR --allow-quantize"), ", where DIR is a folder of models, or use “weft quantize” in a terminal."));
    }
    const d = draft.small;
    if (!models.includes(d.model)) d.model = models[0] ?? "";
    const table = el("div.said");
    const said = el("div.said", { role: "status" });
    const work = new Work(["quantize"], here, changed);
    const name = el("input", { "data-key": "small-name", autocomplete: "off", spellcheck: false, value: d.name, oninput: () => { d.name = name.value; } });
    const again = el("input", { type: "checkbox", checked: d.requantize, "data-key": "requantize", onchange: () => { d.requantize = again.checked; } });
    const consent = el("label.check", { hidden: true }, again, " It is quantised already; do it again all the same, and lose more than from an F16 file");
    let bare = "";
    const choose = (type) => { d.type = type; d.name = name.value = `${bare}-${type}`; };
    async function sizes() {
        table.textContent = "The file is looked at …";
        try {
            const s = await api.post("v1/sizes", { model: d.model });
            if (!here()) return;
            bare = s.name;
            consent.hidden = !s.quantised;
            const fit = s.types.filter((t) => t.bytes < s.bytes && !t.needs_importance);
            if (!fit.some((t) => t.type === d.type)) d.type = fit.at(-1)?.type ?? "";
            const rest = s.types.filter((t) => t.bytes < s.bytes && t.needs_importance).map((t) => t.type);
            if (!fit.length) { table.replaceChildren(el("p", {}, `${d.model} has ${bytes(s.bytes)} in ${s.type}, and no type is smaller.`)); return; }
            choose(d.type);
            table.replaceChildren(grid(`${d.model} has ${bytes(s.bytes)} now, most of it in ${s.type}`, ["Type", "Size", "Of now", "Bits a weight"], fit.map((t) => line(
                el("label", {}, el("input", { type: "radio", name: "type", value: t.type, checked: t.type === d.type, onchange: () => choose(t.type) }), ` ${t.type}`),
                bytes(t.bytes), `${Math.round((100 * t.bytes) / s.bytes)} %`, t.bits.toFixed(2)))),
            rest.length ? el("p.note", {}, `${rest.join(", ")} ${rest.length === 1 ? "needs" : "need"} an importance matrix: “weft imatrix” and “weft quantize” make them in a terminal.`) : "");
        } catch (e) {
            if (here()) wrong(table, e, sizes);
        }
    }
    const start = () => work.begin({ kind: "quantize", model: d.model, type: d.type, name: d.name, ...(d.requantize && !consent.hidden && { requantize: true }) }, said);
    if (!models.length) return card(el("p", {}, "There is no model to begin with; pull one, or put a GGUF file into the folder."));
    sizes();
    return card(el("div.grid", {}, field("Model", select(models, d.model, (v) => { d.model = v; said.replaceChildren(); sizes(); }, "small-model")), field("Name of the new model", name)),
        table, consent, el("div.ways", {}, button("Make it", start, "button.primary")), said, work.root);
}
