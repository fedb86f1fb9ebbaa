// The page Fine-tune: examples in, an adapter out, and everything between them shown.
import { bytes, dialog, download, el, number, plural, svg, toast } from "./ui.js";
import * as api from "./api.js";

const JOBS = "v1/fine_tuning/jobs";
const EXAMPLE = ["{\"prompt\": \"What is the capital of Weftland?\", \"completion\": \"Loomton.\"}",
    "{\"messages\": [{\"role\": \"user\", \"content\": \"Who rules it?\"}, {\"role\": \"assistant\", \"content\": \"A shuttle.\"}]}"].join("\n");
// What can be set: the server's name, what people call it, what it is at first, its least and its most.
const FIELDS = [
    ["n_epochs", "Times through the data", 3, 1, 1000], ["n_steps", "Steps, in place of times", "", 1, 1000000],
    ["learning_rate", "Learning rate", 0.0002, 0, 10], ["batch_size", "Sequences of a batch", 4, 1, 4096],
    ["rank", "Rank", 16, 1, 256], ["alpha", "Alpha, twice the rank if empty", "", 0, 100000],
    ["context", "Most tokens of a sequence", 512, 2, 1048576], ["validation_share", "Share kept back to validate", 0, 0, 0.5],
    ["memory", "GB of memory to take at most; the more, the faster", "", 0, 100000],
];
// What is being written outlives a look at another page.
const draft = { text: "", file: "", table: null, name: "", model: "", set: Object.fromEntries(FIELDS.map(([k, , v]) => [k, String(v)])), id: null };

const time = (s) => (s < 90 ? `${Math.max(1, Math.round(s))} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`);
const table = (rows) => el("dl", {}, rows.filter(([, v]) => v !== undefined && v !== null && v !== "")
    .map(([k, v]) => el("div", {}, el("dt", {}, k), el("dd", {}, String(v)))));
const button = (label, onclick, what = "button") => el(what, { type: "button", onclick }, label);
const loss = (x) => (typeof x === "number" ? x.toFixed(x < 0.01 ? 4 : 3) : null);

// Shows the page as long as `alive`; `trial` opens a chat with a model.
export function tune(root, props, alive, trial) {
    const head = el("h2", {}, "Fine-tune");
    const { on, models } = props.fine_tuning ?? {};
    if (!on) {
        root.replaceChildren(head, el("section.card", {}, el("p", {}, "Fine-tuning teaches a model with examples of yours. It is off on this server."),
            el("p", {}, "Start it with ", el("code", {}, "weft serve --jobs DIR"), ", where DIR is a folder for your examples, checkpoints and adapters.")));
        return;
    }
    if (!models.length) {
        root.replaceChildren(head, el("section.card", {}, el("p", {}, "This server has no model that can be trained. Start it with “weft serve -m FILE.gguf --jobs DIR”.")));
        return;
    }
    const list = new List(alive, trial);
    root.replaceChildren(head, form(models, list), list.root);
    list.look();
}

function form(models, list) {
    if (!models.includes(draft.model)) [draft.model] = models;
    const said = el("div.said", { role: "status" });
    const more = el("div.said");
    const start = button("Start", begin, "button.primary");
    start.disabled = true;
    const stale = () => { start.disabled = true; said.replaceChildren(); more.replaceChildren(); };
    const data = el("textarea.code", {
        rows: 8, value: draft.text, placeholder: EXAMPLE, "data-key": "data",
        oninput: () => { draft.text = data.value; draft.file = ""; stale(); },
    });
    const take = async (file) => {
        if (!file) return;
        if (file.size > 15 << 20) { toast("A file may have 15 MiB here; “weft finetune” on the command line takes larger ones."); return; }
        if (/\.parquet$/i.test(file.name)) {
            draft.table = file;
        } else {
            data.value = draft.text = await file.text();
            toast(`${file.name} is in the field.`);
        }
        if (draft.table !== file) draft.table = null;
        draft.file = file.name;
        shown();
        stale();
    };
    const picker = el("input", { type: "file", hidden: true, accept: ".jsonl,.json,.ndjson,.txt,.md,.parquet", "aria-label": "Training data", onchange: () => { take(picker.files[0]); picker.value = ""; } });
    const box = el("label.field", {}, el("span", {}, "Examples, one a line"), data);
    box.addEventListener("dragover", (e) => { if (e.dataTransfer.types.includes("Files")) e.preventDefault(); });
    box.addEventListener("drop", (e) => { if (e.dataTransfer.files.length) { e.preventDefault(); take(e.dataTransfer.files[0]); } });

    // A table cannot be shown as lines, so that its name stands in place of the field.
    const tabled = el("p", {}, el("span"), " ", button("Use the field instead", () => { draft.table = null; draft.file = ""; shown(); stale(); data.focus(); }));
    const shown = () => {
        box.hidden = Boolean(draft.table);
        tabled.hidden = !draft.table;
        tabled.firstChild.textContent = draft.table ? `The examples are those of ${draft.table.name} (${bytes(draft.table.size)}).` : "";
    };
    shown();
    const upload = (name) => {
        if (!draft.table) return api.post("v1/files", { purpose: "fine-tune", filename: name || "data.jsonl", content: draft.text });
        const form = new FormData();
        form.append("purpose", "fine-tune");
        form.append("file", draft.table, name || "data.parquet");
        return api.upload("v1/files", form);
    };

    const wish = () => {
        const set = {};
        for (const [key] of FIELDS) if (draft.set[key].trim() !== "") set[key] = Number(draft.set[key]);
        if ("n_steps" in set) delete set.n_epochs;
        if ("memory" in set) set.memory = Math.round(set.memory * 1e9);
        const body = { model: draft.model, training_file: draft.id, method: { type: "supervised", supervised: { hyperparameters: set } } };
        if (draft.name.trim()) body.suffix = draft.name.trim();
        return body;
    };
    const wrong = (e) => said.replaceChildren(el("div.problem", {}, el("p", { role: "alert" }, e.message)));
    async function check() {
        if (!draft.table && !draft.text.trim()) { wrong({ message: "There are no examples yet. Paste some, one a line, or choose a file." }); data.focus(); return; }
        stale();
        said.textContent = "The examples are read, and a step is timed …";
        try {
            const name = (draft.file || "pasted.jsonl").replace(/[^\p{L}\p{N} _.()+,-]/gu, "_").replace(/^\.+/, "").slice(-100);
            const old = draft.id;
            draft.id = (await upload(name)).id;
            if (old && old !== draft.id) api.remove(`v1/files/${old}`).catch(() => {});
            const plan = await api.post("v1/fine_tuning/plan", { ...wish(), measure: true });
            if (plan.problems.length) { problems(plan); return; }
            const m = plan.memory;
            said.replaceChildren(el("p", {}, `${plan.data.summary.replace(/^./, (c) => c.toUpperCase())}.`));
            more.replaceChildren(table([
                ["Steps", number(plan.steps)],
                ["Time", plan.seconds ? `about ${time(plan.seconds)}${plan.measured ? "" : ", by the last job"}` : "known after the first step"],
                ["Memory to train", bytes(m.training)],
                ["Layers that are not computed twice", m.layers.whole + m.layers.halves || null],
                ["In use now", bytes(m.taken)],
                ["Memory of the device", m.available ? bytes(m.available) : "not told"],
                ["To validate", plan.validation && plural(plan.validation.examples, "example")],
            ]), el(m.fits ? "p.note" : "p.wrong", {}, m.message), batch(plan.batch));
            start.disabled = !m.fits;
            if (m.fits) start.focus();
        } catch (e) {
            wrong(e);
        }
    }
    function problems(plan) {
        const to = (line) => {
            const lines = data.value.split("\n");
            const from = lines.slice(0, line - 1).reduce((n, l) => n + l.length + 1, 0);
            data.focus();
            data.setSelectionRange(from, from + (lines[line - 1] ?? "").length);
            data.scrollTop = (data.scrollHeight * (line - 1)) / lines.length - data.clientHeight / 2;
        };
        const n = plan.problems.length;
        said.replaceChildren(el("div.problem", {},
            el("p", { role: "alert" }, `${plan.more_problems ? `More than ${n} lines are` : n === 1 ? "One thing is" : `${n} things are`} wrong; nothing was begun.`),
            el("ul.lines", {}, plan.problems.map((p) => el("li", {}, p.line && !draft.table ? button(`Line ${p.line}`, () => to(p.line)) : p.place ? `${p.place}: ` : "", ` ${p.message}`)))));
    }
    async function begin() {
        start.disabled = true;
        try {
            await api.post(JOBS, wish());
            api.remove(`v1/files/${draft.id}`).catch(() => {});
            draft.id = null;
            draft.name = name.value = "";
            stale();
            said.textContent = "The job is on its way; it goes on if you leave this page.";
            await list.look(true);
        } catch (e) {
            wrong(e);
        }
    }
    const name = el("input", { value: draft.name, maxLength: 64, placeholder: "my-style", autocomplete: "off", "data-key": "name", oninput: () => { draft.name = name.value; } });
    return el("section.card.tune", { "aria-label": "New adapter" },
        el("h3", {}, "New adapter"),
        el("div.grid", {},
            el("label.field", {}, el("span", {}, "Model"), el("select", { "data-key": "model", onchange: (e) => { draft.model = e.target.value; stale(); } },
                models.map((m) => el("option", { value: m, selected: m === draft.model }, m)))),
            el("label.field", {}, el("span", {}, "Name of the adapter"), name)),
        box, tabled, picker,
        el("div.ways", {}, button("Choose a file", () => picker.click()),
            button("Put in examples", () => { data.value = draft.text = EXAMPLE; draft.file = ""; draft.table = null; shown(); stale(); data.focus(); })),
        el("details", {}, el("summary", {}, "Settings"), el("div.grid", {}, FIELDS.map(([key, label, , min, max]) =>
            el("label.field", {}, el("span", {}, label), el("input", {
                type: "number", step: "any", min, max, value: draft.set[key], "data-key": key,
                oninput: (e) => { draft.set[key] = e.target.value; stale(); },
            }))))),
        el("div.ways", {}, button("Check", check), start),
        said, more);
}

// The first batch, what is learnt of it marked by colour and line.
function batch(all) {
    return el("details.batch", { open: true }, el("summary", {}, "First batch; what is learnt is marked"),
        el("div.scroll", { tabIndex: 0, role: "region", "aria-label": "First batch" }, all.map((s) => el("p", {}, s.parts.map(([text, learnt]) => (learnt ? el("mark", {}, text) : text))))));
}

// The losses as curves: {step, train, valid} each.
export function curve(points, steps) {
    // As wide as it is shown, so that its words keep their size.
    const [w, h, left, low] = [Math.max(240, Math.min(640, innerWidth - 76)), 180, 44, 20];
    const values = points.flatMap((p) => [p.train, p.valid]).filter((v) => typeof v === "number");
    if (!values.length) return el("p.note", {}, "The curve begins with the first step.");
    const top = Math.max(...values) * 1.05 || 1;
    const bottom = Math.min(0, ...values);
    const x = (s) => left + ((w - left - 8) * (s - 1)) / Math.max(1, steps - 1);
    const y = (v) => 8 + ((h - low - 8) * (top - v)) / (top - bottom);
    const path = (key) => points.filter((p) => typeof p[key] === "number").map((p, i) => `${i ? "L" : "M"}${x(p.step).toFixed(1)} ${y(p[key]).toFixed(1)}`).join("");
    const text = (value, at, up, anchor) => svg("text", { x: at, y: up, "text-anchor": anchor }, value);
    const valid = points.filter((p) => typeof p.valid === "number");
    const shown = points.filter((p) => typeof p.train === "number");
    const [first, last] = [shown.at(0) ?? points[0], shown.at(-1) ?? points[0]];
    const label = `Loss ${loss(first.train)} at step ${first.step}, ${loss(last.train)} at step ${last.step}${valid.length ? `; validation ${loss(valid.at(-1).valid)}` : ""}`;
    return svg("svg", { viewBox: `0 0 ${w} ${h}`, class: "curve", role: "img", "aria-label": label },
        svg("path", { d: `M${left} 8V${h - low}H${w - 8}`, class: "axis" }),
        text(top.toFixed(2), left - 5, 16, "end"), text(bottom.toFixed(0), left - 5, h - low, "end"),
        text("1", left, h - 5, "middle"), text(number(steps), w - 8, h - 5, "end"),
        svg("path", { d: path("train"), class: "train" }),
        svg("path", { d: path("valid"), class: "valid" }),
        ...valid.map((p) => svg("circle", { cx: x(p.step), cy: y(p.valid), r: 3.5, class: "valid" })));
}

const STATES = { queued: "waits for its turn", running: "trains", paused: "is paused", succeeded: "is done", failed: "failed", cancelled: "was cancelled" };

class List {
    constructor(alive, trial) {
        this.alive = alive;
        this.trial = trial;
        this.cards = new Map();
        this.root = el("div.jobs", { role: "region", "aria-label": "Jobs" });
    }

    async look(fresh) {
        try {
            const { data } = await api.get(`${JOBS}?limit=100`);
            if (!this.alive()) return;
            for (const job of data) {
                if (!this.cards.has(job.id)) this.cards.set(job.id, new Card(job, this));
                this.cards.get(job.id).update(job);
            }
            for (const id of this.cards.keys()) if (!data.some((j) => j.id === id)) this.cards.delete(id);
            const order = data.map((j) => this.cards.get(j.id).root);
            if (order.some((n, i) => this.root.children[i] !== n) || this.root.children.length !== order.length) this.root.replaceChildren(...order);
            if (fresh) order[0]?.scrollIntoView({ block: "nearest" });
        } catch (e) {
            // Jobs that are shown already stay.
            if (this.alive() && !this.cards.size) this.root.replaceChildren(el("div.problem", {}, el("p", { role: "alert" }, e.message), el("div.ways", {}, button("Try again", () => this.look()))));
        }
    }
}

class Card {
    constructor(job, list) {
        this.list = list;
        this.id = job.id;
        this.points = new Map();
        this.state = el("p", { role: "status" });
        this.bar = el("progress", { max: 1, value: 0, "aria-label": "Steps done" });
        this.numbers = el("div");
        this.curve = el("div");
        this.ways = el("div.ways");
        this.root = el("section.card.job", { "aria-label": `${job.model}+${job.user_provided_suffix}`, "data-job": job.id },
            el("h3", {}, `${job.model}+${job.user_provided_suffix}`), this.state, this.bar, this.numbers, this.curve, this.ways);
    }

    update(job) {
        this.job = job;
        const p = job.progress;
        const live = job.status === "running";
        const what = live && p.stopping ? `trains its last step before it is ${p.stopping}` : live && !p.step ? "makes the model ready" : live && p.validating ? "is validated" : STATES[job.status];
        const line = `It ${what}${job.error ? `: ${job.error.message}` : ""}.`;
        if (this.state.textContent !== line) this.state.textContent = line;
        this.state.classList.toggle("wrong", job.status === "failed");
        this.bar.max = p.steps || 1;
        this.bar.value = p.step;
        this.bar.hidden = !live && job.status !== "paused";
        this.draw();
        this.actions(job);
        if (job.status === "queued" || live) this.follow();
        else if (!this.points.size && p.step) this.fetch();
    }

    draw() {
        const { progress: p, status } = this.job;
        this.numbers.replaceChildren(table([
            ["Step", `${number(p.step)} of ${number(p.steps)}`],
            ["Loss", loss(p.train_loss)],
            ["Validation loss", loss(p.valid_loss)],
            ["Skipped", [...this.points.values()].filter((s) => s.skipped).length || null],
            ["Tokens a second", status === "running" && p.tokens_per_s ? number(Math.round(p.tokens_per_s * 10) / 10) : null],
            ["Time left", status === "running" && p.seconds_left !== null ? time(p.seconds_left) : null],
            ["Memory", status === "running" && p.memory ? bytes(p.memory) : null],
        ]));
        const points = [...this.points.values()].sort((a, b) => a.step - b.step);
        this.curve.replaceChildren(...(points.length ? [curve(points, p.steps), el("p.note.legend", {}, el("span.train", {}, "— loss"), " ", el("span.valid", {}, "● validation loss"))] : []));
    }

    // Buttons stay the same as long as the state does, so that the focus does.
    actions({ status, fine_tuned_model: model, progress: p }) {
        const key = `${status} ${p.stopping}`;
        if (this.key === key) return;
        this.key = key;
        const had = this.ways.contains(document.activeElement);
        const post = (what) => () => this.act(() => api.post(`${JOBS}/${this.id}/${what}`, {}));
        const ways = [];
        if (model) ways.push(button("Try it", () => this.list.trial(model, this.job.model), "button.primary"));
        if ((status === "running" || status === "queued") && !p.stopping) ways.push(button("Pause", post("pause")));
        if (status === "paused" || status === "failed") ways.push(button("Resume", post("resume")));
        if (["running", "queued", "paused"].includes(status) && !p.stopping) ways.push(button("Cancel", post("cancel")));
        if (model || ((status === "cancelled" || status === "paused") && p.saved_step)) {
            for (const [label, file] of [["GGUF", "adapter.gguf"], ["PEFT", "adapter_model.safetensors"], ["PEFT config", "adapter_config.json"]]) {
                ways.push(button(`Save ${label}`, () => this.act(async () => download(file.startsWith("adapter_") ? file : `${this.job.user_provided_suffix}.gguf`, await api.blob(`${JOBS}/${this.id}/result/${file}`)), false)));
            }
            if (model) ways.push(button("Save the whole model", () => this.act(() => this.merge(), false)));
        }
        if (["succeeded", "failed", "cancelled", "paused"].includes(status)) {
            ways.push(button("Delete", async () => {
                const said = await dialog("Delete this adapter?", el("p", {}, "Its checkpoints and results go with it. It cannot be brought back."), [{ label: "Delete", primary: true }]);
                if (said) this.act(() => api.remove(`${JOBS}/${this.id}`));
            }));
        }
        this.ways.replaceChildren(...ways);
        if (had) ways[0]?.focus();
    }

    // The adapter in the weights of its model, which the server makes first.
    async merge() {
        if (this.merging) return;
        this.merging = true;
        const note = el("p", { role: "status" });
        this.ways.before(note);
        try {
            const find = async () => (await api.get("v1/tasks?limit=32")).data.find((t) => t.job === this.id);
            let task = await find();
            if (!task || ["failed", "cancelled"].includes(task.status)) task = await api.post("v1/tasks", { kind: "merge", job: this.id });
            while (this.list.alive() && (task.status === "queued" || task.status === "running")) {
                note.textContent = `The adapter is added to the model's weights${task.of ? `: ${Math.floor((100 * task.done) / task.of)} %` : ""} …`;
                await new Promise((resolve) => { setTimeout(resolve, 400); });
                task = await api.get(`v1/tasks/${task.id}`);
            }
            if (task.status === "failed") throw new Error(`It could not be made: ${task.error}.`);
            if (task.status === "completed" && this.list.alive()) await api.save(`${JOBS}/${this.id}/result/merged.gguf`, `${this.job.user_provided_suffix}-merged.gguf`);
        } finally {
            note.remove();
            this.merging = false;
        }
    }

    async act(run, look = true) {
        try {
            await run();
            if (look) await this.list.look();
        } catch (e) {
            toast(e.message);
        }
    }

    hear(event) {
        const d = event.data;
        if (!d) return false;
        this.points.set(d.step, { step: d.step, train: d.train_loss, valid: d.valid_loss, skipped: d.skipped });
        return true;
    }

    async fetch() {
        try {
            const { data } = await api.get(`${JOBS}/${this.id}/events?limit=10000`);
            data.reverse().forEach((e) => this.hear(e));
            if (this.list.alive()) this.draw();
        } catch {
            // The numbers are there without their curve.
        }
    }

    // Follows what happens, and again where the server was away, as long as somebody looks.
    async follow() {
        if (this.following) return;
        this.following = true;
        const { alive } = this.list;
        const abort = new AbortController();
        const gone = setInterval(() => { if (!alive()) abort.abort(); }, 1000);
        let due = false;
        const fresh = async () => {
            due = false;
            try {
                const job = await api.get(`${JOBS}/${this.id}`);
                if (alive()) this.update(job);
            } catch {
                // The next event asks again.
            }
        };
        do {
            try {
                await api.follow(`${JOBS}/${this.id}/events?stream=true`, abort.signal, (e) => {
                    this.hear(e);
                    if (!due) { due = true; setTimeout(fresh, 400); }
                });
            } catch {
                await new Promise((resolve) => { setTimeout(resolve, 3000); });
            }
            await fresh();
        } while (alive() && ["queued", "running"].includes(this.job.status));
        clearInterval(gone);
        this.following = false;
        if (alive()) this.list.look();
    }
}
