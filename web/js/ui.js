// Small helpers to build elements, icons, dialogs and notices. No text ever becomes HTML here.

const ICONS = {
    plus: "M12 5v14M5 12h14",
    search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13M15.5 15.5 20 20",
    menu: "M4 6h16M4 12h16M4 18h16",
    send: "M12 20V5M5.5 11.5 12 5l6.5 6.5",
    stop: "M7 7h10v10H7z",
    clip: "M8 12.5 14.5 6a3 3 0 0 1 4.2 4.2l-8.5 8.5a5 5 0 0 1-7-7L11 4",
    sliders: "M4 7h9M19 7h1M16 4.5v5M4 17h3M13 17h7M10 14.5v5",
    transfer: "M8 20V5M4 9l4-4 4 4M16 4v15M12 15l4 4 4-4",
    moon: "M19 14.5A8 8 0 0 1 9.5 5a7.5 7.5 0 1 0 9.5 9.5",
    keys: "M3 7h18v10H3zM7 11h.01M11 11h.01M15 11h.01M8 14h8",
    box: "M4 8l8-4 8 4v8l-8 4-8-4zM4 8l8 4 8-4M12 12v8",
    chip: "M7 7h10v10H7zM10 3v4M14 3v4M10 17v4M14 17v4M3 10h4M3 14h4M17 10h4M17 14h4",
    copy: "M9 9h10v11H9zM15 9V4H5v11h4",
    edit: "M5 19l1-4L16 5l3 3L9 18zM14 7l3 3",
    again: "M19 12a7 7 0 1 1-2-5M19 4v4h-4",
    forward: "M5 6l6 6-6 6M13 6l6 6-6 6",
    left: "M14 6l-6 6 6 6",
    right: "M10 6l6 6-6 6",
    down: "M12 5v14M6 13l6 6 6-6",
    close: "M6 6l12 12M18 6 6 18",
    pin: "M9 4h6l-1 6 3 3H7l3-3zM12 13v7",
    trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
    more: "M6 12h.01M12 12h.01M18 12h.01",
    file: "M7 3h7l4 4v14H7zM14 3v4h4",
    wrench: "M14 6a4 4 0 0 1 5-1l-3 3 1 1 3-3a4 4 0 0 1-5 5L8 18a2 2 0 0 1-3-3l7-7a4 4 0 0 1 2-2",
    columns: "M4 5h7v14H4zM13 5h7v14h-7z",
    check: "M5 12l5 5 9-10",
    book: "M5 4h9a4 4 0 0 1 4 4v12H8a3 3 0 0 1-3-3zM5 17a3 3 0 0 1 3-3h10",
};

// Whether a button of the pointer is held, and who waits for it to be let go.
let held = false;
const waiting = [];
function release() {
    held = false;
    // The click that belongs to it comes first.
    setTimeout(() => waiting.splice(0).forEach((go) => go()));
}
globalThis.addEventListener?.("pointerdown", () => { held = true; }, true);
globalThis.addEventListener?.("pointerup", release, true);
globalThis.addEventListener?.("pointercancel", release, true);
// It may have been let go outside the window.
globalThis.addEventListener?.("pointermove", (e) => { if (held && !e.buttons) release(); }, true);

// Resolves once no button of the pointer is held. Lists that are drawn anew by themselves wait for it: a button that is
// replaced between the press and the release is never clicked.
export const released = async () => { if (held) await new Promise((go) => { waiting.push(go); }); };

const SVG = "http://www.w3.org/2000/svg";

// Draws the icon `name` into `svg`, or into a new element.
export function icon(name, svg = document.createElementNS(SVG, "svg")) {
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("class", "i");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", ICONS[name]);
    svg.replaceChildren(path);
    return svg;
}

// An element: el("button.primary", {onclick, title}, child, "text").
export function el(what, props = {}, ...children) {
    const [tag, ...classes] = what.split(".");
    const node = document.createElement(tag);
    if (classes.length) node.className = classes.join(" ");
    for (const [key, value] of Object.entries(props)) {
        if (value === undefined || value === null || value === false) continue;
        if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
        else if (key in node && !key.startsWith("aria") && key !== "list" && key !== "form") node[key] = value;
        else node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
    return node;
}

// An element of a drawing.
export function svg(tag, props, ...children) {
    const node = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(props)) node.setAttribute(key, value);
    node.append(...children);
    return node;
}

// A button with an icon and a name that a screen reader says and a pointer shows.
export function iconButton(name, label, onclick, props = {}) {
    return el("button.icon", { type: "button", "aria-label": label, title: label, onclick, ...props }, icon(name));
}

// The scripts that are not modules: no other address becomes one.
const SCRIPTS = ["sw.js", "vendor/temml/temml.min.js"];
const own = globalThis.trustedTypes?.createPolicy("weft", { createScriptURL: (url) => (SCRIPTS.includes(url) ? url : "") });
export const scriptURL = (url) => (own ? own.createScriptURL(url) : url);

// Loads a script that leaves its functions in the global scope.
export function classic(url) {
    return new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.addEventListener("load", resolve);
        script.addEventListener("error", () => reject(new Error(`${url} could not be loaded`)));
        script.src = scriptURL(url);
        document.head.append(script);
    });
}

export const $ = (id) => document.getElementById(id);

// A modal dialog; resolves when it is closed, and gives the focus back to where it was.
export function dialog(title, content, buttons = [], kind = "plain") {
    const before = document.activeElement;
    const box = el(`dialog.${kind}`, { "aria-labelledby": "dialog-title" });
    const close = (value) => { box.returnValue = value; box.close(); };
    box.append(
        el("div.head", {}, el("h2", { id: "dialog-title" }, title),
            iconButton("close", "Close", () => close(""))),
        el("div.content", {}, content),
        el("div.buttons", {}, buttons.map((b) =>
            el(b.primary ? "button.primary" : "button", {
                type: "button",
                onclick: async () => { if ((await b.run?.()) !== false) close(b.label); },
            }, b.label))),
    );
    box.addEventListener("click", (e) => { if (e.target === box) close(""); });
    document.body.append(box);
    box.showModal();
    return new Promise((resolve) => {
        box.addEventListener("close", () => {
            box.remove();
            if (before?.isConnected) before.focus();
            resolve(box.returnValue);
        });
    });
}

// A short notice at the bottom, with one thing to do where there is one.
export function toast(text, action) {
    const note = el("div.toast", {}, el("span", {}, text));
    const gone = setTimeout(() => note.remove(), action ? 10000 : 5000);
    if (action) {
        note.append(el("button", {
            type: "button",
            onclick: () => { clearTimeout(gone); note.remove(); action.run(); },
        }, action.label));
    }
    $("toasts").append(note);
    return note;
}

export async function copyText(text) {
    try {
        await navigator.clipboard.writeText(text);
        toast("Copied.");
    } catch {
        // Without https or permission there is no clipboard; the old way needs a field that is selected.
        const field = el("textarea.hidden", { value: text });
        document.body.append(field);
        field.select();
        const done = document.execCommand("copy");
        field.remove();
        toast(done ? "Copied." : "The browser did not allow copying; select the text and copy it by hand.");
    }
}

export function download(name, text, type) {
    const url = URL.createObjectURL(new Blob([text], { type }));
    const link = el("a", { href: url, download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
}

export const number = (n) => Number(n).toLocaleString("en-GB");
export function bytes(n) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let i = 0;
    let value = Number(n);
    while (value >= 1024 && i < units.length - 1) { value /= 1024; i += 1; }
    return `${i && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[i]}`;
}
export const seconds = (ms) => (ms < 9950 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`);
export const plural = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;
