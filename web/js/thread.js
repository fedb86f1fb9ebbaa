// The messages of the open chat. Each has a view that is kept and updated; only the newest are in the document.
import { $, el, icon, iconButton, number, plural, seconds } from "./ui.js";
import { cite } from "./documents.js";
import { copiedFrom, Growing } from "./markdown.js";
import { siblings } from "./tree.js";
import { copyText } from "./ui.js";
import { callsView } from "./calls.js";

const WINDOW = 60;

export class Thread {
    // `actions` are what buttons do: edit, regenerate, resume, branch, copy, answerCalls, retry, act.
    constructor(actions) {
        this.actions = actions;
        this.views = new Map();
        this.extra = 0;
        this.stuck = true;
        this.frame = 0;
        this.rest = 0;
        this.dirty = new Set();
        this.scroller = $("scroll");
        this.list = $("thread");
        this.announcer = new Announcer($("announce"));
        this.scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
        this.scroller.addEventListener("click", (e) => {
            const text = copiedFrom(e);
            if (text !== null) copyText(text);
        });
        $("latest").addEventListener("click", () => { this.toEnd(); $("ask").focus(); });
        this.earlier = el("button.earlier", { type: "button", onclick: () => this.more() }, "Show earlier messages");
    }

    // Shows `path`, a branch of `messages`.
    show(path, messages, fresh) {
        if (fresh) {
            this.views.clear();
            this.extra = 0;
            this.stuck = true;
            this.list.replaceChildren();
        }
        this.path = path;
        this.messages = messages;
        const from = Math.max(0, path.length - WINDOW - this.extra);
        const shown = path.slice(from);
        const keep = new Set(shown.map((m) => m.id));
        for (const id of this.views.keys()) if (!keep.has(id)) this.views.delete(id);
        const nodes = shown.map((m, i) => {
            if (!this.views.has(m.id)) this.views.set(m.id, new View(m, this.actions));
            const view = this.views.get(m.id);
            view.update(m, { siblings: siblings(messages, m), last: from + i === path.length - 1 });
            return view.li;
        });
        if (from > 0) nodes.unshift(el("li.more", {}, this.earlier));
        const old = [...this.list.children];
        // What stays is not moved: a node that is moved loses its focus and its scrolling.
        if (old.length > nodes.length || old.some((n, i) => n !== nodes[i])) this.list.replaceChildren(...nodes);
        else this.list.append(...nodes.slice(old.length));
        if (this.stuck) this.toEnd();
    }

    more() {
        const height = this.scroller.scrollHeight;
        this.extra += WINDOW;
        this.stuck = false;
        this.show(this.path, this.messages);
        this.scroller.scrollTop += this.scroller.scrollHeight - height;
    }

    // A message has new text: it is drawn in the next frame that has time for it.
    grow(message) {
        this.dirty.add(message);
        if (!this.frame) this.frame = requestAnimationFrame((now) => this.draw(now));
    }

    draw(now) {
        this.frame = 0;
        if (now < this.rest) {
            this.frame = requestAnimationFrame((t) => this.draw(t));
            return;
        }
        const start = performance.now();
        for (const m of this.dirty) {
            const view = this.views.get(m.id);
            if (!view) continue;
            view.update(m, view.where);
            this.announcer.hear(m);
        }
        this.dirty.clear();
        if (this.stuck) this.toEnd();
        const cost = performance.now() - start;
        // An answer that is dear to draw is drawn less often, so that the page stays quick.
        this.rest = cost > 4 ? start + 4 * cost : 0;
    }

    scrolled() {
        const { scrollTop, scrollHeight, clientHeight } = this.scroller;
        this.stuck = scrollHeight - scrollTop - clientHeight < 60;
        $("latest").hidden = this.stuck;
    }

    toEnd() {
        this.stuck = true;
        this.scroller.scrollTop = this.scroller.scrollHeight;
        $("latest").hidden = true;
    }

    edit(id) { this.views.get(id)?.edit(); }
    focus(id) { this.views.get(id)?.li.querySelector("button")?.focus(); }
}

class View {
    constructor(message, actions) {
        this.actions = actions;
        this.id = message.id;
        this.name = el("h2");
        this.body = el("div.body");
        this.foot = el("div.foot");
        this.li = el(`li.msg.${message.role}`, { "data-id": message.id }, this.name, this.body, this.foot);
    }

    update(message, where) {
        this.message = message;
        this.where = where;
        if (this.editing) return;
        this.name.textContent = nameOf(message);
        this.li.classList.toggle("streaming", message.state === "streaming");
        if (message.role === "assistant") this.answer(message);
        else this.said(message);
        this.footer(message, where);
    }

    said(message) {
        const key = message.content + (message.files?.length ?? 0);
        if (this.drawn === key) return;
        this.drawn = key;
        this.body.replaceChildren(el("div.plain", {}, message.content));
        if (message.files?.length) {
            this.body.append(el("ul.files", {}, message.files.map((f) => el("li", {},
                el("details", {}, el("summary", {}, icon("file"), ` ${f.name} `, el("small", {}, plural(f.text.length, "character"))),
                    el("pre", { tabIndex: 0 }, f.text.slice(0, 20000) + (f.text.length > 20000 ? "\n…" : "")))))));
        }
    }

    answer(message) {
        this.parts ??= {};
        const p = this.parts;
        const live = message.state === "streaming";
        // A model that does not think may still write empty tags.
        const thinking = message.thinking?.trim() ?? "";
        if (thinking && !p.thinking) {
            p.summary = el("summary");
            p.thought = el("div.md");
            p.thinking = el("details.thinking", {}, p.summary, p.thought);
            p.thoughts = new Growing(p.thought);
            p.thinking.addEventListener("toggle", () => this.update(this.message, this.where));
            this.body.prepend(p.thinking);
        }
        if (p.thinking) {
            p.thinking.hidden = !thinking;
            p.summary.textContent = live && !message.content && !message.calls?.length
                ? "Thinking …"
                : `Thought${message.thinkMs >= 50 ? ` for ${seconds(message.thinkMs)}` : ""}`;
            // Folded thoughts cost nothing.
            if (p.thinking.open) p.thoughts.set(thinking, !live);
        }
        if (!p.text) {
            p.text = el("div.md");
            p.growing = new Growing(p.text);
            this.body.append(p.text);
        }
        p.growing.set(shownText(message), !live);
        this.sources(message, live);
        const waiting = live && !message.problem && !message.content && !thinking && !message.calls?.length;
        if (waiting || p.wait) {
            p.wait ??= el("p.wait");
            p.wait.hidden = !waiting;
            p.wait.textContent = waiting ? waitText(message) : "";
            if (!p.wait.parentNode) this.body.append(p.wait);
        }
        this.calls(message);
        this.problem(message);
    }

    // The passages that an answer was given, and cites.
    sources(message, live) {
        const key = live || !message.sources?.length ? "" : message.content;
        if (this.sourcesKey === key) return;
        this.sourcesKey = key;
        this.parts.sources?.remove();
        this.parts.sources = null;
        if (!key) return;
        this.parts.sources = cite(this.parts.text, message.sources);
        this.parts.text.after(this.parts.sources);
    }

    calls(message) {
        const key = JSON.stringify([message.calls, message.state, this.where?.last]);
        if (!message.calls?.length || this.callsKey === key) return;
        this.callsKey = key;
        const view = callsView(message, this.where?.last && message.state !== "streaming", this.actions);
        if (this.parts.calls) this.parts.calls.replaceWith(view);
        else this.body.append(view);
        this.parts.calls = view;
    }

    problem(message) {
        const p = this.parts;
        const { left, ...rest } = message.problem ?? {};
        const key = JSON.stringify([message.problem ? rest : null, this.where?.last]);
        if (this.problemKey !== key) {
            this.problemKey = key;
            p.problem?.remove();
            p.problem = null;
            if (!message.problem) return;
            const { text, ways } = this.actions.explain(message);
            p.count = el("p.count", { "aria-hidden": "true" });
            p.problem = el("div.problem", {}, el("p", { role: "alert" }, text), p.count,
                el("div.ways", {}, ways.map((w) => el("button", { type: "button", onclick: w.run }, w.label))));
            this.body.append(p.problem);
        }
        if (p.problem) {
            p.count.hidden = left === undefined;
            p.count.textContent = left === undefined ? "" : `Trying again in ${left} s.`;
        }
    }

    footer(message, where) {
        const { siblings: s, last } = where;
        const live = message.state === "streaming";
        const key = JSON.stringify([s, last, this.actions.canCompare(s.count), message.state, message.stats ?? null, message.valid ?? null, message.dropped ?? 0]);
        if (this.footKey === key) return;
        this.footKey = key;
        const nodes = [];
        if (s.count > 1) {
            const go = (by) => this.actions.branch(message, s.ids[s.index + by]);
            nodes.push(el("span.branch", { role: "group", "aria-label": "Versions of this message" },
                iconButton("left", "Previous version", () => go(-1), { disabled: s.index === 0 || live }),
                el("span", {}, `${s.index + 1}/${s.count}`),
                iconButton("right", "Next version", () => go(1), { disabled: s.index === s.count - 1 || live })));
        }
        if (!live) {
            nodes.push(iconButton("copy", "Copy", () => this.actions.copy(message)));
            if (message.role !== "tool") nodes.push(iconButton("edit", "Edit", () => this.edit()));
            if (message.role === "assistant") {
                nodes.push(iconButton("again", "Regenerate", () => this.actions.regenerate(message)));
                if (this.actions.canCompare(s.count)) {
                    nodes.push(iconButton("columns", "Versions side by side", () => this.actions.compare(message)));
                }
                if (last && message.content && ["stopped", "cut", "length"].includes(message.state)) {
                    nodes.push(iconButton("forward", "Continue", () => this.actions.resume(message)));
                }
            }
        }
        const notes = statsText(message);
        if (notes) nodes.push(el("span.stats", { title: timesText(message) }, notes));
        this.foot.replaceChildren(...nodes);
    }

    edit() {
        const { message } = this;
        if (this.editing || message.state === "streaming") return;
        this.editing = true;
        const field = el("textarea.edit", { value: message.content, dir: "auto", "aria-label": "Edit the message" });
        const close = (run) => {
            this.editing = false;
            this.li.classList.remove("editing");
            form.remove();
            this.body.hidden = false;
            this.foot.hidden = false;
            run?.();
        };
        const save = () => {
            const text = field.value;
            if (!text.trim() && !message.files?.length) return;
            close(() => this.actions.edit(message, text));
        };
        const form = el("div.editor", {}, field, el("div.ways", {},
            el("button.primary", { type: "button", onclick: save }, message.role === "user" ? "Send as a new version" : "Keep as a new version"),
            el("button", { type: "button", onclick: () => close(() => this.actions.refocus()) }, "Cancel")));
        field.addEventListener("keydown", (e) => {
            if (e.key === "Escape") { e.stopPropagation(); close(() => this.actions.refocus()); }
            if (e.key === "Enter" && (e.ctrlKey || e.metaKey || (message.role === "user" && !e.shiftKey)) && !e.isComposing) {
                e.preventDefault();
                save();
            }
        });
        this.li.classList.add("editing");
        this.body.hidden = true;
        this.foot.hidden = true;
        this.li.append(form);
        field.focus();
        field.setSelectionRange(field.value.length, field.value.length);
    }
}

const nameOf = (m) => (m.role === "user" ? "You" : m.role === "tool" ? `Result of ${m.name ?? "a tool"}` : m.model || "Answer");

// JSON that was asked for is shown as a block, in lines once it is whole.
function shownText(message) {
    if (!message.json || !message.content) return message.content;
    let text = message.content;
    if (message.state !== "streaming") {
        try {
            text = JSON.stringify(JSON.parse(text), null, 2);
        } catch {
            // Shown as it came; the note below says that it is no JSON.
        }
    }
    const fence = "`".repeat(Math.max(3, ...(text.match(/`+/g) ?? []).map((run) => run.length + 1)));
    return `${fence}json\n${text}${message.state === "streaming" ? "" : `\n${fence}`}`;
}

function waitText(message) {
    const p = message.progress;
    if (p?.note) return p.note;
    if (p?.total) return `Reading the prompt: ${number(p.processed)} of ${plural(p.total, "token")} …`;
    if (message.queue != null) return `Waiting for a place: ${message.queue} before this one …`;
    return "Waiting for the first token …";
}

export function statsText(message) {
    if (message.role !== "assistant") return "";
    const s = message.stats ?? {};
    const notes = [];
    if (s.tps) notes.push(`${s.tps < 10 ? s.tps.toFixed(1) : Math.round(s.tps)} t/s`);
    if (s.completion) notes.push(plural(s.completion, "token"));
    if (s.cached) notes.push(`${number(s.cached)} of ${number(s.prompt)} prompt tokens from the cache`);
    if (message.strengths) notes.push(message.strengths);
    if (message.valid === true) notes.push("valid JSON");
    if (message.valid === false) notes.push("no valid JSON");
    if (message.dropped) notes.push(`${plural(message.dropped, "early message")} left out`);
    if (message.state === "stopped") notes.push("stopped");
    if (message.state === "length") notes.push("ended at the most tokens allowed");
    if (message.edited) notes.push("edited by you");
    return notes.join(" · ");
}

// Where the time went, shown under the pointer.
function timesText({ stats: s = {} }) {
    const parts = [["waited", s.queueMs], ["read the prompt", s.prefillMs], ["wrote", s.decodeMs], ["first token after", s.ttft]];
    return parts.filter(([, ms]) => ms >= 1).map(([what, ms]) => `${what} ${ms < 1000 ? `${Math.round(ms)} ms` : seconds(ms)}`).join(", ");
}

// Says finished sentences to a screen reader, not tokens.
class Announcer {
    constructor(region) {
        this.region = region;
        this.said = 0;
        this.id = "";
        this.next = 0;
    }

    hear(message) {
        if (message.role !== "assistant") return;
        if (this.id !== message.id) {
            this.id = message.id;
            this.said = 0;
        }
        const now = Date.now();
        const over = message.state !== "streaming";
        if (!over && now < this.next) return;
        const fresh = message.content.slice(this.said);
        const end = over ? fresh.length : Math.max(fresh.lastIndexOf(". "), fresh.lastIndexOf("? "), fresh.lastIndexOf("! "), fresh.lastIndexOf("\n")) + 1;
        if (end <= 0) return;
        this.said += end;
        this.next = now + 1500;
        const words = fresh.slice(0, end).replace(/[`*_#>|]+/g, " ").trim();
        if (!words) return;
        this.region.append(el("p", {}, words.length > 2000 ? `${words.slice(0, 2000)} …` : words));
        while (this.region.childElementCount > 4) this.region.firstElementChild.remove();
    }
}
