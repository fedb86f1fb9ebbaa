// Calls of tools that a model made, and fields in which a person writes what the tools gave back.
import { el, icon } from "./ui.js";

function pretty(text) {
    try {
        return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
        return text;
    }
}

export function callsView(message, open, actions) {
    const fields = [];
    const cards = message.calls.map((call, i) => {
        const card = el("div.call", {},
            el("div.bar", {}, icon("wrench"), el("strong", {}, call.name || "…")),
            el("pre", { tabIndex: 0, "aria-label": `Arguments of ${call.name}` }, pretty(call.arguments)));
        if (open) {
            const field = el("textarea", {
                rows: 2, "aria-label": `Result of ${call.name}`, placeholder: "What the tool gives back",
                "data-call": i,
            });
            fields.push(field);
            card.append(field);
        }
        return card;
    });
    const box = el("div.calls", {}, cards);
    if (open) {
        box.append(el("div.ways", {}, el("button.primary", {
            type: "button",
            onclick: () => actions.answerCalls(message, fields.map((f) => f.value)),
        }, fields.length === 1 ? "Send the result" : "Send the results")));
    }
    return box;
}
