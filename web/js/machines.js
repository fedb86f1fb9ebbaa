// Other machines, a part of the page Device: which there are, how one is added or forgotten, a code for another one.
import { el } from "./ui.js";
import * as api from "./api.js";

export function machines() {
    const place = el("section.card.machines", { "aria-label": "Machines", hidden: true });
    const said = el("p", { role: "status" });
    let all = null;
    const act = (run) => async (e) => {
        e.preventDefault();
        said.textContent = "…";
        try { said.textContent = await run(); } catch (p) { said.textContent = p.message; }
        await fill();
        globalThis.dispatchEvent(new Event("weft-models"));
    };
    const row = (name, does) => el("li", {}, el("span", {}, el("b", {}, name), ` ${does}`), all.may_change && el("button", {
        type: "button", "aria-label": `Forget ${name}`,
        onclick: act(async () => { await api.remove(`v1/machines/${encodeURIComponent(name)}`); return `${name} is forgotten.`; }),
    }, "Forget"));
    const code = el("input", { id: "machine-code", required: true, autocomplete: "off", spellcheck: false, placeholder: "K7QX-3M9F-TA2B-CD4E@192.168.1.4" });
    const form = el("form", {
        onsubmit: act(async () => {
            const { name } = await api.post("v1/machines", { code: code.value });
            code.value = "";
            return `${name} is added; its models are in the list.`;
        }),
    }, el("label", { htmlFor: "machine-code" }, "Code of a machine whose models are to be used here"), el("div.ways", {}, code, el("button", { type: "submit" }, "Add")));
    const show = el("button", {
        type: "button",
        onclick: act(async () => {
            const made = await api.post("v1/pair", {});
            return `Good for ten minutes, on the other machine: ${made.code}@HOST:${made.port}, with the address of this machine for HOST.`;
        }),
    }, "Show a code for another machine");
    async function fill() {
        // Who keeps no machines has nothing to show.
        all = await api.get("v1/machines").catch(() => null);
        if (!all) return;
        place.hidden = false;
        const rows = [
            ...all.data.map((m) => row(m.name, m.answers ? `answers with ${m.models.join(", ") || "no model"}` : `is away: ${m.why}`)),
            ...all.guests.map((g) => row(g.name, "may use this machine")),
        ];
        place.replaceChildren(el("h3", {}, "Machines"),
            el("p", {}, `This one is called ${all.name}. `, all.listens ? "" : "To let others use it, start “weft serve --pair”."),
            rows.length ? el("ul", {}, rows) : "", all.may_change ? form : el("p", {}, "“weft pair” on its computer adds and forgets machines."),
            all.may_change && all.listens ? show : "", said);
    }
    fill();
    return place;
}
