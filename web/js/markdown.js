// Markdown of a model, which nobody has checked, as nodes. While an answer streams, only its last block is made anew.
//
// Two guards stand one behind the other: tags in the text are shown as text but for a few harmless ones, and what is
// left is sanitised. Pictures are never loaded, since their addresses could carry a chat away.
import { Lexer, Marked, Parser } from "../vendor/marked/marked.esm.js";
import "../vendor/dompurify/purify.min.js";
import { classic, el, icon } from "./ui.js";

const { DOMPurify } = globalThis;

// Longer runs of text are shown as they are: emphasis in them would cost the square of their length.
const INLINE_LIMIT = 16 * 1024;
const HIGHLIGHT_LIMIT = 60 * 1024;
const HARMLESS = /^<\/?(?:b|i|em|strong|u|s|del|ins|mark|small|sub|sup|kbd|br|hr|details|summary|p|ul|ol|li)\s*\/?>$/i;

const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const harmlessTags = (text) => text.replace(/<[^>]*>?|[&"'>]/g, (part) => (HARMLESS.test(part) ? part : escape(part)));

const renderer = {
    html: ({ text }) => harmlessTags(text),
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    image({ href, text }) {
        return `<a href="${escape(href)}">${escape(text || "picture")} (picture, not loaded)</a>`;
    },
};

const math = (raw, tex, block) => ({ type: block ? "mathBlock" : "math", raw, tex: tex.trim() });
const formula = (token) => {
    const kind = token.type === "mathBlock" ? "math math-block" : "math";
    return `<span class="${kind}">${escape(token.tex)}</span>`;
};
const mathExtensions = [
    {
        name: "mathBlock",
        level: "block",
        start: (src) => src.match(/\n {0,3}(?:\$\$|\\\[)/)?.index,
        tokenizer(src) {
            const m = /^ {0,3}\$\$([^$]{1,8000}?)\$\$[ \t]*(?:\n|$)/.exec(src) ??
                /^ {0,3}\\\[([\s\S]{1,8000}?)\\\][ \t]*(?:\n|$)/.exec(src);
            return m ? math(m[0], m[1], true) : undefined;
        },
        renderer: formula,
    },
    {
        name: "math",
        level: "inline",
        start: (src) => src.match(/\$|\\[([]/)?.index,
        tokenizer(src) {
            const shown = /^\$\$([^$]{1,4000}?)\$\$/.exec(src) ?? /^\\\[([\s\S]{1,4000}?)\\\]/.exec(src);
            if (shown) return math(shown[0], shown[1], true);
            // A price is no formula: the dollars hug what they hold, and no digit follows.
            const m = /^\\\(([\s\S]{1,2000}?)\\\)/.exec(src) ??
                /^\$(?![\s$])([^$\n]{0,999}?[^\s$\\])\$(?!\d)/.exec(src);
            return m ? math(m[0], m[1], false) : undefined;
        },
        renderer: formula,
    },
];

const plain = new Marked({ gfm: true, breaks: true }).use({ renderer });
const withMath = new Marked({ gfm: true, breaks: true }).use({ renderer, extensions: mathExtensions });

const CONFIG = {
    ALLOWED_TAGS: ["a", "b", "blockquote", "br", "code", "del", "details", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr",
        "i", "ins", "kbd", "li", "mark", "ol", "p", "pre", "s", "small", "span", "strong", "sub", "summary", "sup",
        "table", "tbody", "td", "th", "thead", "tr", "u", "ul"],
    ALLOWED_ATTR: ["align", "class", "href", "open", "start", "title"],
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
    RETURN_DOM_FRAGMENT: true,
};
// A text whose first letter is of a script that is written from right to left.
const FROM_RIGHT = /^\P{L}*(?=\p{L})[\p{scx=Hebr}\p{scx=Arab}\p{scx=Syrc}\p{scx=Thaa}\p{scx=Nkoo}]/u;
const CLASSES = /^(?:language-[\w+#.-]{1,40}|math(?: math-block)?|hljs-[\w-]{1,40}(?: \w{1,40}_){0,3})$/;

DOMPurify.addHook("uponSanitizeAttribute", (node, data) => {
    if (data.attrName === "class" && !CLASSES.test(data.attrValue)) data.keepAttr = false;
});

// Text as it was written, for what is too deep or too odd to be Markdown.
const asText = (text) => ({ type: "paragraph", raw: text, text, tokens: [{ type: "text", raw: text, text }] });

function lex(text) {
    const marked = /\$|\\[([]/.test(text) ? withMath : plain;
    const lexer = new Lexer(marked.defaults);
    try {
        lexer.blockTokens(text, lexer.tokens);
        for (const { src, tokens } of lexer.inlineQueue) {
            if (src.length > INLINE_LIMIT) tokens.push({ type: "text", raw: src, text: src });
            else lexer.inlineTokens(src, tokens);
        }
    } catch {
        // Thousands of quotes within quotes end the stack.
        return [asText(text)];
    }
    return lexer.tokens;
}

function render(tokens) {
    try {
        const html = new Parser(withMath.defaults).parse(tokens);
        const fragment = DOMPurify.sanitize(html, CONFIG);
        decorate(fragment);
        return fragment;
    } catch {
        const fragment = document.createDocumentFragment();
        fragment.append(el("p.long", {}, tokens.map((t) => t.raw).join("")));
        return fragment;
    }
}

function decorate(fragment) {
    for (const link of fragment.querySelectorAll("a")) {
        link.target = "_blank";
        link.rel = "noopener noreferrer nofollow";
    }
    for (const code of fragment.querySelectorAll("pre > code")) {
        const block = codeBlock(/language-(\S+)/.exec(code.className)?.[1] ?? "", code.textContent.replace(/\n$/, ""));
        code.parentElement.replaceWith(block.box);
        highlight(block);
    }
    for (const table of fragment.querySelectorAll("table")) {
        const box = el("div.table", { tabIndex: 0 });
        table.replaceWith(box);
        box.append(table);
    }
    for (const span of fragment.querySelectorAll("span.math")) typeset(span);
    // Each message has a heading of the page's own; those of an answer stand below it, whatever level it began with.
    for (const h of fragment.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
        h.replaceWith(el(`h3.${h.tagName.toLowerCase()}`, {}, ...h.childNodes));
    }
    // Each block begins on the side where its own script begins. A browser that finds out the side of a list or a quote
    // leaves out paragraphs in it that have theirs.
    for (const block of fragment.querySelectorAll("p, h3, summary")) block.dir = "auto";
    for (const block of fragment.querySelectorAll("ul, ol, blockquote, table")) {
        if (FROM_RIGHT.test(block.textContent.slice(0, 500))) block.dir = "rtl";
    }
}

// A block of code with its language and a button that copies it.
export function codeBlock(language, text) {
    const data = document.createTextNode(text);
    const code = el("code", {}, data);
    const copy = el("button.copy", { type: "button", "aria-label": "Copy this code", title: "Copy" }, icon("copy"));
    const box = el("div.code", {}, el("div.bar", {}, el("span", {}, language || "text"), copy),
        el("pre", { tabIndex: 0 }, code));
    return { box, code, data, language };
}

const KNOWN = {
    bash: "bash", sh: "bash", shell: "bash", console: "bash", zsh: "bash", c: "c", h: "c", cpp: "cpp", "c++": "cpp",
    hpp: "cpp", css: "css", diff: "diff", patch: "diff", go: "go", golang: "go", ini: "ini", toml: "ini", java: "java",
    javascript: "javascript", js: "javascript", jsx: "javascript", mjs: "javascript", json: "json", jsonl: "json",
    markdown: "markdown", md: "markdown", python: "python", py: "python", rust: "rust", rs: "rust", sql: "sql",
    typescript: "typescript", ts: "typescript", tsx: "typescript", xml: "xml", html: "xml", svg: "xml", yaml: "yaml",
    yml: "yaml",
};
const languages = new Map();

// The highlighter with `name`, fetched when code of this language first appears.
function language(name) {
    if (!languages.has(name)) {
        languages.set(name, Promise.all([
            import("../vendor/highlight/core.min.js"),
            import(`../vendor/highlight/languages/${name}.min.js`),
        ]).then(([core, grammar]) => {
            core.default.registerLanguage(name, grammar.default);
            return core.default;
        }));
    }
    return languages.get(name);
}

async function highlight(block) {
    const name = KNOWN[block.language.toLowerCase()];
    const text = block.data.data;
    if (!name || text.length > HIGHLIGHT_LIMIT) return;
    try {
        const { value } = (await language(name)).highlight(text, { language: name, ignoreIllegals: true });
        block.code.replaceChildren(DOMPurify.sanitize(value, {
            ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true,
        }));
    } catch {
        // Offline and not yet kept: the code stays as it is, in one colour.
    }
}

// Styles that formulas come with as text, which the policy of the page forbids, become styles that a script sets.
function restyle(node) {
    const text = node.attributes?.style;
    if (text) {
        delete node.attributes.style;
        for (const [, name, value] of text.matchAll(/([a-z-]+)\s*:\s*([^;]+)/g)) {
            node.style[name.replace(/-(.)/g, (_, c) => c.toUpperCase())] = value.trim();
        }
    }
    node.children?.forEach(restyle);
}

let temml;
async function typeset(span) {
    const tex = span.textContent;
    try {
        temml ??= classic("vendor/temml/temml.min.js").then(() => globalThis.temml);
        const tree = (await temml).__renderToMathMLTree(tex, {
            displayMode: span.classList.contains("math-block"),
            throwOnError: true,
            trust: false,
            maxSize: [20, 400],
            maxExpand: 200,
        });
        restyle(tree);
        span.replaceChildren(tree.toNode());
        span.classList.add("set");
    } catch {
        // What is no formula stays as it was written.
        span.textContent = tex;
    }
}

// Copies from the block whose button was pressed, if one was.
export function copiedFrom(event) {
    const block = event.target.closest?.("button.copy")?.closest(".code");
    return block ? block.querySelector("code").textContent : null;
}

// A text that grows, shown in `root`.
export class Growing {
    constructor(root) {
        this.root = root;
        this.clear();
    }

    clear() {
        this.text = "";
        this.done = 0;
        this.lengths = [];
        this.final = false;
        this.open = null;
        this.tail = el("div.tail");
        this.root.replaceChildren(this.tail);
    }

    // Shows `text`; `final` where nothing more will come.
    set(raw, final = false) {
        const text = raw.includes("\r") ? raw.replace(/\r\n?/g, "\n") : raw;
        if (text === this.text && final === this.final) return;
        if (this.final || !text.startsWith(this.text)) this.clear();
        this.text = text;
        const tokens = lex(text.slice(this.done));
        let last = tokens.length - 1;
        while (last >= 0 && tokens[last].type === "space") last -= 1;
        if (last > 0) this.settle(tokens.slice(0, last));
        this.showTail(last >= 0 ? tokens[last] : null, final);
        if (!final) return;
        this.final = true;
        // A definition at the end changes links above it, and a formula may hold empty lines: then all is made anew.
        const whole = lex(text);
        const lengths = whole.map((t) => t.raw.length);
        const mine = [...this.lengths, ...tokens.slice(Math.max(0, last)).map((t) => t.raw.length)];
        const same = lengths.length === mine.length && lengths.every((n, i) => n === mine[i]);
        if (same && !whole.some((t) => t.type === "def")) return;
        this.root.replaceChildren(this.tail);
        this.tail.replaceChildren(render(whole));
        this.open = null;
    }

    // Blocks that cannot change any more.
    settle(tokens) {
        this.tail.before(render(tokens));
        this.tail.replaceChildren();
        this.open = null;
        for (const t of tokens) {
            this.done += t.raw.length;
            this.lengths.push(t.raw.length);
        }
    }

    showTail(token, final) {
        if (!token) {
            this.tail.replaceChildren();
            this.open = null;
            return;
        }
        const code = token.type === "code";
        const long = !code && token.raw.length > INLINE_LIMIT && ["paragraph", "text", "html"].includes(token.type);
        if (!code && !long) {
            this.open = null;
            this.tail.replaceChildren(render([token]));
            return;
        }
        const kind = code ? `code ${token.lang ?? ""}` : "long";
        if (this.open?.kind !== kind) {
            this.open = code ? codeBlock(token.lang?.split(/\s/)[0] ?? "", "") : longText();
            this.open.kind = kind;
            this.tail.replaceChildren(this.open.box);
        }
        // Only what is new is written.
        const { data } = this.open;
        const text = code ? token.text : token.raw;
        if (text.length >= data.length) data.appendData(text.slice(data.length));
        else data.data = text;
        if (code && final) highlight(this.open);
    }
}

function longText() {
    const data = document.createTextNode("");
    return { box: el("p.long", {}, data), data };
}
