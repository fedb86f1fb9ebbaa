// Starts the page: wires the parts together, and has the keyboard, the addresses and the watch for the server.
import { $, copyText, dialog, el, icon, number, scriptURL, toast } from "./ui.js";
import * as api from "./api.js";
import * as store from "./store.js";
import { Chats } from "./chat.js";
import { Thread } from "./thread.js";
import { Panel } from "./panel.js";
import { Sidebar } from "./sidebar.js";
import { Composer } from "./composer.js";
import { compareDialog } from "./compare.js";
import { explain } from "./problems.js";
import * as pages from "./pages.js";
import { alt, installKeys, keysDialog } from "./keys.js";
import { transferDialog } from "./transfer-dialog.js";

for (const svg of document.querySelectorAll("svg[data-icon]")) icon(svg.dataset.icon, svg);

const chats = new Chats();
const actions = {
    edit: (m, text) => chats.edit(m, text),
    regenerate: (m) => chats.regenerate(m),
    resume: (m) => chats.resume(m),
    retry: (m) => chats.retry(m),
    shorten: async (m) => { if (!(await chats.shorten(m))) toast("The last message alone is too long for the context. Make it shorter."); },
    branch: async (m, to) => { await chats.branch(m, to); thread.focus(to); },
    answerCalls: (m, results) => chats.answerCalls(m, results),
    canCompare: (versions) => versions > 1 || chats.talkers.length > 1,
    compare: (m) => compareDialog(chats, m),
    hurry: (m) => chats.hurry(m),
    stop: () => chats.stop(),
    copy: (m) => copyText(m.content),
    refocus: () => $("ask").focus(),
    settings: () => panel.toggle(true),
    fresh: () => go("#/"),
    refresh: async (m) => { await lookAtServer(true); if (chats.talkers.length) chats.retry(m); },
    key: (m) => askKey(m),
    explain: (m) => explain(m, actions),
};
const thread = new Thread(actions);
const panel = new Panel(chats, () => $("settings").focus());
const sidebar = new Sidebar(chats, go);
const composer = new Composer(chats, panel, () => thread.toEnd());

function go(hash) {
    if (location.hash === hash) route();
    else location.hash = hash;
}

// Draws a page anew that has changed, at the place where it was read.
async function redraw() {
    lookAtServer();
    const at = $("page").scrollTop;
    await route();
    $("page").scrollTop = at;
}

async function route() {
    const [, page, id] = location.hash.split("/");
    closeSidebarOnPhone();
    const named = page in pages.TITLES;
    $("chat-page").hidden = named;
    $("page").hidden = !named;
    document.body.classList.toggle("on-page", named);
    for (const a of document.querySelectorAll(".pages a")) {
        if (a.getAttribute("href") === `#/${page}`) a.setAttribute("aria-current", "page");
        else a.removeAttribute("aria-current");
    }
    pages.leave();
    if (named) {
        panel.toggle(false);
        $("title").textContent = pages.TITLES[page];
        document.title = `${$("title").textContent} · Weft`;
        await pages.show($("page"), page, route, { trial, ask: askDocuments, changed: redraw });
    } else if (page === "chat") {
        if (chats.chat?.id === id) titles();
        else if (!(await chats.open(id))) {
            toast("That chat is not in this browser.");
            go("#/");
        }
    } else {
        chats.fresh();
    }
}

function askDocuments() {
    go("#/");
    chats.fresh();
    panel.set("documents", true);
    composer.documents();
    $("ask").focus();
}

// A chat with an adapter that was just made.
async function trial(model, base) {
    go("#/");
    await lookAtServer();
    panel.set("model", model);
    pickModels();
    toast(`Ask ${model} something; ${alt} + V then asks ${base} the same, side by side.`);
    $("ask").focus();
}

// A page beside the chat keeps its title and its address, whatever an answer does meanwhile.
const onPage = () => !$("page").hidden;

function titles() {
    if (onPage()) return;
    $("title").textContent = chats.chat.title;
    document.title = chats.list.includes(chats.chat) ? `${chats.chat.title} · Weft` : "Weft";
}

function show(fresh) {
    const { path } = chats;
    $("welcome").hidden = path.length > 0;
    thread.show(path, chats.messages, fresh);
    titles();
    gauge();
    composer.state();
}

function gauge() {
    const { context } = chats;
    const last = chats.running.get(chats.chat.id)?.message.stats?.total ?? chats.chat.used ?? 0;
    const g = $("gauge");
    g.hidden = !context;
    if (!context) return;
    const share = Math.min(100, Math.round((100 * last) / context));
    g.setAttribute("aria-valuenow", share);
    g.setAttribute("aria-valuetext", `${number(last)} of ${number(context)} tokens`);
    g.title = `${number(last)} of ${number(context)} tokens of the context`;
    g.querySelector("i").style.width = `${share}%`;
    g.querySelector(".text").textContent = `${number(last)} / ${number(context)}`;
    g.classList.toggle("full", share >= 90);
}

chats.addEventListener("open", () => {
    // The address names the chat that is shown, so that its link works after it was deleted and brought back too.
    if (location.hash.startsWith("#/chat/") && location.hash !== `#/chat/${chats.chat.id}`) history.replaceState(null, "", "#/");
    show(true);
    if (panel.open) panel.fill();
    if (matchMedia("(pointer: fine)").matches) $("ask").focus();
});
chats.addEventListener("path", () => {
    if (chats.list.includes(chats.chat) && !onPage() && !location.hash.startsWith("#/chat/")) {
        history.replaceState(null, "", `#/chat/${chats.chat.id}`);
    }
    show(false);
});
chats.addEventListener("grow", ({ detail }) => { if (detail.chat === chats.chat?.id) thread.grow(detail); });
chats.addEventListener("list", () => { if (chats.chat) titles(); });
chats.addEventListener("ended", ({ detail }) => {
    if (detail.chat !== chats.chat?.id) toast("Another chat has its answer.", { label: "Show", run: () => go(`#/chat/${detail.chat}`) });
    // The focus returns to where the next question is written, unless the person went elsewhere.
    else if (document.activeElement === document.body || document.activeElement === $("send")) $("ask").focus();
});
chats.addEventListener("problem", ({ detail }) => {
    if (detail.problem.kind === "gone" || detail.problem.kind === "cut") lookAtServer();
});
store.onOtherTab(() => chats.load());

// ---- the server: what it has, whether it is there
let away = false;
let looking = 0;
async function lookAtServer(said) {
    clearTimeout(looking);
    let next = 0;
    try {
        await api.health();
        const { models, props } = await api.facts(chats.chat?.settings.model);
        Object.assign(chats, { models, props });
        banner(chats.talkers.length ? "" : "The server has no model that answers. Start it with “weft serve -m FILE.gguf”.");
        pickModels();
        composer.documents();
        welcome();
        if (chats.chat) show(false);
        // Fields that a person is writing in stay as they are.
        if (panel.open && !panel.root.contains(document.activeElement)) panel.fill();
        if (away) back();
        away = false;
        if (said) toast("The list of models is fresh.");
    } catch (e) {
        if (e.kind === "key") { banner("The server asks for a key."); askKey(); return; }
        away = true;
        banner(e.kind === "gone"
            ? "The server does not answer. Start it with “weft serve”; your chats are here, and this page looks for it every few seconds."
            : `The server is not ready: ${e.message} This page looks again every few seconds.`);
        next = 3000;
    }
    if (next) looking = setTimeout(lookAtServer, next);
}

// An answer that never began is asked for again; one that broke off is left to the person.
function back() {
    toast("The server is back.");
    const last = chats.path.at(-1);
    if (last?.problem?.kind === "gone" && !last.content && !last.thinking) chats.retry(last);
}

function banner(text) {
    const b = $("banner");
    if (b.textContent !== text) b.textContent = text;
}

function pickModels() {
    const select = $("model");
    const ids = chats.talkers.map((m) => m.id);
    if ([...select.options].map((o) => o.value).join("\n") !== ids.join("\n")) {
        select.replaceChildren(...ids.map((id) => el("option", { value: id }, id)));
    }
    $("model-label").hidden = ids.length === 0;
    if (chats.chat) select.value = chats.model;
}
// A machine was added or forgotten, and its models with it.
globalThis.addEventListener("weft-models", () => lookAtServer());
$("model").addEventListener("change", (e) => { panel.set("model", e.target.value); lookAtServer(); });
chats.addEventListener("open", pickModels);

async function askKey(message) {
    const field = el("input", { type: "password", autocomplete: "off", "aria-label": "Key" });
    const keep = el("input", { type: "checkbox", id: "keep-key" });
    const said = await dialog("The server asks for a key", el("div.fields", {},
        el("p", {}, "It is the text of the file that “weft serve --api-key-file” was given."),
        field, el("label.check", { htmlFor: "keep-key" }, keep, " Keep it in this browser")),
    [{ label: "Use this key", primary: true }]);
    if (!said || !field.value.trim()) return;
    api.setKey(field.value.trim(), keep.checked);
    await lookAtServer();
    if (message) chats.retry(message);
}

function welcome() {
    const model = chats.model || "the model";
    const ideas = /mini/.test(model)
        ? ["What is 17 + 25?", "What is 12 * 9?", "Is 91 a prime number?"]
        : ["Explain what a KV cache is, in three sentences.", "Write a haiku about weaving.", "What can you help me with?"];
    $("welcome").replaceChildren(
        el("h2", {}, `Ask ${model}`),
        el("p", {}, chats.models.find((m) => m.id === chats.model)?.owned_by === "this browser"
            ? "It runs in this browser, on this device: nothing that you write leaves it."
            : "It runs on this server alone. Chats stay in this browser."),
        el("div.ideas", {}, ideas.map((t) => el("button", { type: "button", onclick: () => composer.send(t) }, t))));
}

// ---- buttons of the frame
const phone = matchMedia("(max-width: 760px)");
function sidebarOpen(open) {
    document.body.classList.toggle("sidebar", open);
    document.body.classList.toggle("no-sidebar", !open);
    $("menu").setAttribute("aria-expanded", String(open));
    $("sidebar").inert = !open;
}
const closeSidebarOnPhone = () => { if (phone.matches) sidebarOpen(false); };
phone.addEventListener("change", () => sidebarOpen(!phone.matches));
sidebarOpen(!phone.matches);
function toggleSidebar() {
    const open = !document.body.classList.contains("sidebar");
    sidebarOpen(open);
    if (open && phone.matches) $("new-chat").focus();
}
$("menu").addEventListener("click", toggleSidebar);
$("backdrop").addEventListener("click", () => { sidebarOpen(false); $("menu").focus(); });
$("new-chat").addEventListener("click", () => go("#/"));
$("settings").addEventListener("click", () => panel.toggle());
$("help").addEventListener("click", keysDialog);
$("export").addEventListener("click", () => transferDialog(chats, go));

const THEMES = { system: "as the system", light: "light", dark: "dark" };
function theme(next) {
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem("weft-theme", next); } catch { /* It holds until the page is closed. */ }
    $("theme").title = `Appearance: ${THEMES[next]}`;
    $("theme").setAttribute("aria-label", `Appearance: ${THEMES[next]}`);
    const dark = next === "dark" || (next === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
    document.querySelector("meta[name=theme-color]").content = dark ? "#17191b" : "#f7f5f1";
}
$("theme").addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
    theme(next);
    toast(`Appearance: ${THEMES[next]}.`);
});
theme(document.documentElement.dataset.theme in THEMES ? document.documentElement.dataset.theme : "system");

installKeys({
    chats, thread, panel, composer, compare: actions.compare,
    fresh: () => { go("#/"); $("ask").focus(); },
    search: () => { sidebarOpen(true); $("search").focus(); $("search").select(); },
    sidebar: toggleSidebar,
    closeSidebar: closeSidebarOnPhone,
    rename: () => { sidebarOpen(true); sidebar.rename(chats.chat); },
});

// ---- start
window.addEventListener("hashchange", route);
window.addEventListener("pagehide", () => { panel.save(); chats.leave(); });
window.addEventListener("pageshow", (e) => { if (e.persisted) location.reload(); });
document.addEventListener("visibilitychange", () => {
    // What a phone has put away it may end without a word.
    if (document.hidden) panel.save();
    else if (away) lookAtServer();
});
window.addEventListener("online", () => lookAtServer());

store.onFailure((e) => {
    const full = e.name === "QuotaExceededError";
    toast(full
        ? "This browser has no room for more chats. Export and delete some."
        : "This browser does not let the page keep chats; they last until it is closed. Allow storage for this address.");
});

(async () => {
    welcome();
    const engine = document.querySelector("meta[name=weft-engine]")?.content;
    if (engine) {
        api.setDevice(await import(new URL(engine, document.baseURI)));
        api.device.onModel((id) => { go("#/"); panel.set("model", id); lookAtServer(); });
    }
    try {
        await chats.load();
    } catch {
        // Said when the first chat cannot be kept.
    }
    await route();
    await lookAtServer();
    await chats.recover().catch(() => {});
    document.documentElement.dataset.ready = "yes";
})();

if ("serviceWorker" in navigator && isSecureContext) {
    navigator.serviceWorker.register(scriptURL("sw.js")).catch(() => {
        // Without it the page works all the same, but not offline.
    });
}
// For the tests and for the curious.
globalThis.weft = { chats, thread };

