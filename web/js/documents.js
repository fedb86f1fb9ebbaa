// The page Documents, what the prompt says of passages, and the passages that an answer cites.
import { bytes, dialog, el, icon, iconButton, plural, released, toast } from "./ui.js";
import * as api from "./api.js";

// A server takes 16 MiB in one request, and base64 makes four bytes of three.
const MOST = 11 * 1024 * 1024;
// Passages that a question is answered from, where the context has room for them.
const PASSAGES = 4;

// What waits here to be sent; it goes on while other pages are looked at.
const waiting = [];
let sending = null;
let redraw = () => {};

async function base64(file) {
    const url = await new Promise((resolve, reject) => {
        const reader = new FileReader();
        reader.addEventListener("load", () => resolve(reader.result));
        reader.addEventListener("error", () => reject(reader.error));
        reader.readAsDataURL(file);
    });
    return url.slice(url.indexOf(",") + 1);
}

async function sendAll() {
    while ((sending = waiting.shift())) {
        redraw();
        const { name } = sending;
        try {
            const added = await api.post("v1/documents", { name, content: await base64(sending.file) });
            if (added.known) toast(`${name} was there already.`);
        } catch (e) {
            toast(e.kind ? e.message : `${name} could not be read: ${e.message}`);
        }
    }
    redraw();
}

function take(files) {
    for (const file of files) {
        if (file.size > MOST) {
            toast(`${file.name} has ${bytes(file.size)}; the page sends at most ${bytes(MOST)}. “weft rag add” takes larger files.`);
        } else waiting.push({ name: file.name, file });
    }
    if (waiting.length && !sending) sendAll();
    else redraw();
}

const place = (p) => [p.name, p.page && `page ${p.page}`, p.heading].filter(Boolean).join(", ");

const none = () => [
    el("p", {}, "Questions can be answered from your own files: text, Markdown and PDF. They are kept on the computer that the server runs on."),
    el("p", {}, "This server keeps no documents. Start it with a file to keep them in, and an embedding model such as MiniLM or bge:"),
    el("pre.command", { tabIndex: 0 }, "weft serve --documents documents.redb --embedder minilm.gguf"),
    el("p.note", {}, "With “--reranker FILE” a reranker orders what is found; “weft rag add” adds files from a terminal."),
];

function row(d, refresh) {
    const facts = [d.pages && plural(d.pages, "page"), plural(d.passages, "passage"), bytes(d.bytes)].filter(Boolean).join(" · ");
    const remove = async () => {
        try {
            await api.remove(`v1/documents/${encodeURIComponent(d.id)}`);
            toast(`${d.name} is removed.`);
        } catch (e) {
            toast(e.message);
        }
        refresh();
    };
    return el("li", { "data-document": d.name }, icon("file"), el("div", {}, el("strong", {}, d.name), el("small", {}, facts)),
        iconButton("trash", `Remove ${d.name}`, remove));
}

function wait(name, done, of) {
    const text = of ? `${done} of ${plural(of, "passage")}` : "waiting";
    return el("li.adding", {}, icon("file"), el("div", {}, el("strong", {}, name), el("small", {}, text),
        el("progress", { max: of || 1, value: of ? done : 0, "aria-label": `Progress of ${name}` })));
}

function found(list, question) {
    if (!list.length) return el("p", {}, `Nothing was found for “${question}”.`);
    return el("ol.found", {}, list.map((p) => el("li", {}, el("h3", {}, place(p)), el("p", {}, p.text))));
}

// Draws the page as long as `here()` says that somebody looks at it; `ask` begins a chat with documents.
export async function documentsPage(root, served, here, ask) {
    if (!served) {
        root.replaceChildren(el("h2", {}, "Documents"), ...none());
        return;
    }
    const picker = el("input", { type: "file", multiple: true, hidden: true, onchange: (e) => { take(e.target.files); e.target.value = ""; } });
    const list = el("ul.documents", { "aria-label": "Documents" });
    const results = el("div", { role: "status" });
    const field = el("input", { type: "search", "aria-label": "Find passages", placeholder: "Find passages", autocomplete: "off" });
    const search = async (e) => {
        e.preventDefault();
        if (!field.value.trim()) return;
        try {
            results.replaceChildren(found((await api.post("v1/documents/search", { query: field.value })).data, field.value));
        } catch (err) {
            results.replaceChildren(el("div.problem", {}, el("p", { role: "alert" }, err.message)));
        }
    };
    const drop = el("div.drop", {
        ondragover: () => drop.classList.add("over"), ondragleave: () => drop.classList.remove("over"),
        ondrop: (e) => {
            e.preventDefault();
            e.stopPropagation();
            drop.classList.remove("over");
            take(e.dataTransfer.files);
        },
    }, el("p", {}, "Drop text, Markdown or PDF files here."),
    el("button.primary", { type: "button", onclick: () => picker.click() }, "Choose files"), picker);
    const begin = el("button", { type: "button", hidden: true, onclick: ask }, "Ask about these documents");
    root.replaceChildren(el("h2", {}, "Documents"), drop, list, begin,
        el("form.find", { onsubmit: search }, field, el("button", { type: "submit" }, "Find")), results,
        el("p.note", {}, `Passages are found by words and by the vectors of ${served.embedder}${served.reranker ? `, and ordered by ${served.reranker}` : ""}.`));
    let turn = 0;
    const refresh = async () => {
        turn += 1;
        const mine = turn;
        try {
            const { data, adding } = await api.get("v1/documents");
            await released();
            if (!here() || mine !== turn) return;
            // What this page sends is on the server's list too once it has come there.
            const known = new Set(adding.map((a) => a.name));
            const own = [sending, ...waiting].filter((w) => w && !known.has(w.name));
            list.replaceChildren(...data.map((d) => row(d, refresh)),
                ...adding.map((a) => wait(a.name, a.passages_done, a.passages)), ...own.map((w) => wait(w.name, 0, 0)));
            begin.hidden = !data.length;
            if (!data.length && !adding.length && !own.length) list.replaceChildren(el("li.note", {}, "No documents yet."));
            if (adding.length || own.length) setTimeout(() => { if (here() && mine === turn) refresh(); }, 400);
        } catch (e) {
            if (here()) list.replaceChildren(el("li.problem", {}, el("p", { role: "alert" }, e.message), el("button", { type: "button", onclick: refresh }, "Try again")));
        }
    };
    redraw = () => { if (here()) refresh(); };
    await refresh();
}

// The passages that answer a question, as many as the context has room for.
export async function passagesFor(question, context, signal) {
    const { data } = await api.post("v1/documents/search", { query: question, top_n: PASSAGES }, signal);
    // Half of the context at three letters a token.
    let room = (context ?? 4096) * 1.5;
    return data.filter((p, i) => {
        room -= p.text.length + 40;
        return i === 0 || room >= 0;
    }).map(({ document, name, page, heading, text }) => ({ document, name, page, heading, text }));
}

// A question behind the passages that it is to be answered from.
export function promptOf(passages, question) {
    const all = passages.map((p, i) => `[${i + 1}] ${place(p)}\n${p.text}`).join("\n\n");
    return `Answer the question from these passages alone, and name the passage behind each statement by its number, such as [1]. If they do not have the answer, say so.\n\n${all}\n\nQuestion: ${question}`;
}

const show = (sources, n) => dialog(`[${n}] ${place(sources[n - 1])}`, el("p.passage", {}, sources[n - 1].text), [], "wide");

function button(sources, n, text, kind) {
    return el(`button.${kind}`, { type: "button", title: place(sources[n - 1]), "aria-label": `Passage ${n}: ${place(sources[n - 1])}`, onclick: () => show(sources, n) }, text);
}

// Makes the numbers in an answer that are passages into buttons, and lists all passages below it: those cited first.
export function cite(root, sources) {
    const cited = new Set();
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    const nodes = [];
    while (walker.nextNode()) {
        if (!walker.currentNode.parentElement.closest("a, code, button, math")) nodes.push(walker.currentNode);
    }
    for (const node of nodes) {
        const parts = node.data.split(/(\[\d{1,2}(?:\s*,\s*\d{1,2})*\])/);
        if (parts.length < 2) continue;
        const made = [];
        for (const [i, part] of parts.entries()) {
            const numbers = i % 2 ? part.match(/\d+/g).map(Number) : [];
            if (!numbers.length || numbers.some((n) => n < 1 || n > sources.length)) {
                made.push(part);
                continue;
            }
            // A number stays on the line of the word before it.
            const before = made.pop();
            const word = /\S{0,20}\s?$/.exec(before)[0];
            made.push(before.slice(0, before.length - word.length), el("span.held", {}, word,
                numbers.map((n) => { cited.add(n); return button(sources, n, `[${n}]`, "cite"); })));
        }
        node.replaceWith(...made);
    }
    const order = sources.map((_, i) => i + 1).sort((a, b) => cited.has(b) - cited.has(a) || a - b);
    return el("ul.sources", { "aria-label": "Passages" }, order.map((n) => el(cited.has(n) ? "li.cited" : "li", {},
        button(sources, n, `[${n}] ${sources[n - 1].name}${sources[n - 1].page ? `, page ${sources[n - 1].page}` : ""}`, "source"))));
}
