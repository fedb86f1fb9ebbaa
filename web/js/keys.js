// The keyboard: everything has a key, and a dialog lists them.
import { $, copyText, dialog, el } from "./ui.js";
import { siblings } from "./tree.js";

const mac = /Mac|iPhone|iPad/.test(navigator.platform);
export const alt = mac ? "⌥" : "Alt";
const ctrl = mac ? "⌘" : "Ctrl";

const KEYS = [
    ["Enter", "Send the message"],
    ["Shift + Enter", "Begin a new line"],
    ["Esc", "Stop the answer, or close what is open"],
    ["↑ in the empty field", "Edit your last message"],
    [`${ctrl} + K`, "Search the chats"],
    [`${alt} + N`, "New chat"],
    [`${alt} + B`, "Show or hide the chats"],
    [`${alt} + S`, "Settings of this chat"],
    [`${alt} + R`, "Regenerate the last answer"],
    [`${alt} + C`, "Continue an answer that was stopped"],
    [`${alt} + E`, "Edit the last answer"],
    [`${alt} + Y`, "Copy the last answer"],
    [`${alt} + , and ${alt} + .`, "Previous and next version of the last answer"],
    [`${alt} + V`, "Versions of the last answer side by side"],
    [`${alt} + A`, "Attach text files"],
    [`${alt} + J`, "Go to the newest message"],
    ["F2 in the list", "Rename a chat"],
    ["Delete in the list", "Delete a chat"],
    ["? or F1", "This list"],
];

export function keysDialog() {
    return dialog("Keyboard", el("dl.keys", {}, KEYS.map(([k, what]) => el("div", {}, el("dt", {}, k), el("dd", {}, what)))));
}

const typing = (e) => /^(?:INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName);

export function installKeys({ chats, thread, panel, composer, compare, fresh, search, sidebar, closeSidebar, rename }) {
    const lastAnswer = () => chats.path.findLast((m) => m.role === "assistant");
    const withLast = (run) => { const m = lastAnswer(); if (m) run(m); };
    const step = (by) => withLast((m) => {
        const s = siblings(chats.messages, m);
        const to = s.ids[s.index + by];
        if (to) chats.branch(m, to);
    });
    const byCode = {
        KeyN: fresh,
        KeyB: sidebar,
        KeyS: () => panel.toggle(),
        KeyR: () => withLast((m) => chats.regenerate(m)),
        KeyC: () => withLast((m) => { if (["stopped", "cut", "length"].includes(m.state)) chats.resume(m); }),
        KeyE: () => withLast((m) => thread.edit(m.id)),
        KeyY: () => withLast((m) => copyText(m.content)),
        KeyV: () => withLast(compare),
        KeyA: () => $("picker").click(),
        KeyJ: () => thread.toEnd(),
        Comma: () => step(-1),
        Period: () => step(1),
    };
    document.addEventListener("keydown", (e) => {
        if (e.defaultPrevented || document.querySelector("dialog[open]")) return;
        if (e.altKey && !e.ctrlKey && !e.metaKey && !e.shiftKey && byCode[e.code]) {
            e.preventDefault();
            byCode[e.code]();
        } else if ((e.ctrlKey || e.metaKey) && !e.shiftKey && !e.altKey && e.code === "KeyK") {
            e.preventDefault();
            search();
        } else if (e.key === "F1" || (e.key === "?" && !typing(e))) {
            e.preventDefault();
            keysDialog();
        } else if (e.key === "F2" && !e.target.closest("#chats") && chats.list.includes(chats.chat)) {
            e.preventDefault();
            rename();
        } else if (e.key === "Escape") {
            if (chats.busy) chats.stop();
            else if (panel.open) panel.toggle(false);
            else closeSidebar();
            composer.field.focus();
        } else if (e.key === "ArrowUp" && e.target === composer.field && !composer.field.value && !chats.busy) {
            const m = chats.path.findLast((x) => x.role === "user");
            if (m) { e.preventDefault(); thread.edit(m.id); }
        }
    });
}
