// Models from the server's hub, where it lets requests pull: how far each is, stopping it, going on, removing.
import { bytes, dialog, el, plural, released } from "./ui.js";
import * as api from "./api.js";

const over = (p) => ["stopped", "failed", "done"].includes(p.status);
const WORDS = { starting: "asking the hub", checking: "checking what is there", pulling: "", waiting: "waiting to try again", stopping: "stopping", stopped: "stopped", failed: "failed", done: "is there" };

function left(s) {
    if (s === null || s === undefined) return "";
    return s < 60 ? `${plural(s, "second")} left` : `${plural(Math.ceil(s / 60), "minute")} left`;
}

// The section, kept up to date as long as `here()`; `changed` is called when a model came or went.
export function pulls(here, changed) {
    const said = el("p", { role: "status" });
    const list = el("ul.pulls");
    const models = el("ul.pulls");
    const input = el("input", { id: "pull-name", required: true, autocomplete: "off", spellcheck: false, placeholder: "org/repo:Q4_K_M" });
    const tried = async (what) => {
        said.textContent = "";
        try {
            await what();
        } catch (e) {
            said.textContent = e.message;
        }
        await look();
    };
    const start = (model) => tried(() => api.post("v1/pulls", { model }));
    const stop = (id) => tried(() => api.remove(`v1/pulls/${encodeURIComponent(id)}`));
    const remove = (id) => dialog("Remove a model", el("p", {}, `The files of ${id} are removed from the server.`), [
        { label: "Remove", primary: true, run: () => tried(() => api.remove(`v1/models/${encodeURIComponent(id)}`)) },
    ]);
    const button = (label, id, onclick) => el("button", { type: "button", "aria-label": `${label} ${id}`, "data-key": `${label} ${id}`, onclick }, label);

    const one = (p) => {
        const part = p.total ? `${bytes(p.completed)} of ${bytes(p.total)}` : p.completed ? bytes(p.completed) : "";
        const rate = p.status === "pulling" && p.rate ? `${bytes(p.rate)}/s` : "";
        const text = [WORDS[p.status] ?? p.status, part, rate, p.status === "pulling" ? left(p.seconds_left) : ""].filter(Boolean).join(", ");
        return el("li", { "data-pull": p.id }, el("strong", {}, p.id), " ", text,
            p.status === "failed" ? el("p.why", {}, p.error.message) : null,
            over(p) ? null : el("progress", { "aria-label": p.id, max: p.total ?? 1, value: p.total ? p.completed : undefined }),
            el("div.ways", {}, ...over(p)
                ? [p.status === "done" ? null : button("Go on", p.id, () => start(p.id)), button(p.status === "done" ? "Hide" : "Drop", p.id, () => stop(p.id))]
                : [button("Stop", p.id, () => stop(p.id))]));
    };
    let last = "";
    let known = null;
    // What changed is drawn, and the focus stays on the button that it was on.
    async function look() {
        const { data, models: all } = await api.get("v1/pulls");
        await released();
        const now = JSON.stringify([data, all]);
        const ids = JSON.stringify(all);
        if (known !== null && known !== ids) changed();
        known = ids;
        if (now === last) return;
        last = now;
        const focused = document.activeElement?.dataset?.key;
        list.replaceChildren(...data.map(one));
        models.replaceChildren(...all.map((m) => el("li", {}, el("strong", {}, m.id), ` ${bytes(m.size)}`,
            m.pulled_as ? el("div.ways", {}, button("Remove", m.id, () => remove(m.id))) : null)));
        if (focused) section.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
    }
    const section = el("section.card", { "aria-label": "Pull a model" }, el("h3", {}, "Pull a model"),
        el("form.ways", { onsubmit: (e) => { e.preventDefault(); start(input.value.trim()); } },
            el("label", { htmlFor: "pull-name" }, "Name at the hub"), input, el("button.primary", { type: "submit" }, "Pull")),
        said, list, models);
    (async () => {
        while (here()) {
            if (!document.hidden) {
                await look().catch((e) => { said.textContent = e.message; });
            }
            await new Promise((resolve) => { setTimeout(resolve, 600); });
        }
    })();
    return section;
}
