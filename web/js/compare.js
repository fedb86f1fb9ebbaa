// The versions of an answer side by side, such as those of two models or adapters.
import { dialog, el } from "./ui.js";
import { Growing } from "./markdown.js";
import { statsText } from "./thread.js";

export function compareDialog(chats, message) {
    const versions = chats.messages.filter((m) => m.parent === message.parent && m.role === "assistant");
    const asked = new Set(versions.map((m) => m.model));
    const others = chats.talkers.map((m) => m.id).filter((id) => !asked.has(id));
    const close = () => box.closest("dialog").close();
    const column = (m, i) => {
        const text = el("div.md");
        new Growing(text).set(m.content || m.problem?.text || "No text.", true);
        return el("section.version", { "aria-label": `Version ${i + 1}`, tabIndex: 0 },
            el("h3", {}, m.model || `Version ${i + 1}`),
            m.thinking?.trim() ? el("details.thinking", {}, el("summary", {}, "Thoughts"), el("div.plain", {}, m.thinking.trim())) : null,
            text,
            el("p.note", {}, statsText(m)),
            m.id === message.id
                ? el("p.note", {}, "Shown in the chat.")
                : el("button", { type: "button", onclick: () => { close(); chats.branch(m, m.id); } }, "Show this one"));
    };
    const box = el("div", {},
        el("div.versions", {}, versions.map(column)),
        others.length ? el("div.ways", {}, others.map((id) => el("button", {
            type: "button",
            onclick: () => { close(); chats.regenerate(message, id); },
        }, `Ask ${id}`))) : null);
    return dialog("Versions side by side", box, [], "wide");
}
