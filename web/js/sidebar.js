// The list of chats: search, open, rename, pin, delete.
import { $, el, iconButton, toast } from "./ui.js";
import * as store from "./store.js";

export class Sidebar {
    constructor(chats, go) {
        this.chats = chats;
        this.go = go;
        this.found = null;
        this.words = [];
        this.list = $("chats");
        $("search").addEventListener("input", () => {
            clearTimeout(this.typing);
            this.typing = setTimeout(() => this.search(), 120);
        });
        $("search").addEventListener("keydown", (e) => {
            if (e.key === "Escape" && e.target.value) { e.stopPropagation(); e.target.value = ""; this.search(); }
            if (e.key === "ArrowDown" || e.key === "Enter") {
                e.preventDefault();
                const first = this.list.querySelector("a");
                if (e.key === "Enter") first?.click();
                else first?.focus();
            }
        });
        this.list.addEventListener("keydown", (e) => this.key(e));
        chats.addEventListener("list", () => this.show());
        chats.addEventListener("open", () => this.show());
    }

    async search() {
        this.words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
        this.found = this.words.length ? await store.search(this.words) : null;
        this.show();
    }

    show() {
        const { found, words } = this;
        const fits = (c) => !found || found.has(c.id) || words.every((w) => c.title.toLowerCase().includes(w));
        const list = this.chats.list.filter(fits);
        const focused = document.activeElement?.closest?.("#chats li")?.dataset.id;
        this.list.replaceChildren(...(list.length ? list.map((c) => this.entry(c)) : [
            el("li.none", {}, found ? "No chat has these words." : "Chats are kept in this browser."),
        ]));
        if (focused) this.list.querySelector(`li[data-id="${CSS.escape(focused)}"] a`)?.focus();
    }

    entry(chat) {
        const here = chat === this.chats.chat;
        return el("li", { "data-id": chat.id, class: here ? "here" : "" },
            el("a", { href: `#/chat/${chat.id}`, "aria-current": here ? "page" : null, title: chat.title }, chat.title),
            this.chats.running.has(chat.id) ? el("span.live", { role: "img", "aria-label": "answering" }) : null,
            iconButton("pin", chat.pinned ? "Unpin" : "Pin", () => this.chats.pin(chat), { "aria-pressed": String(chat.pinned), class: `icon pin${chat.pinned ? " on" : ""}` }),
            iconButton("edit", "Rename", () => this.rename(chat), { class: "icon rename" }),
            iconButton("trash", "Delete", () => this.remove(chat), { class: "icon remove" }));
    }

    rename(chat) {
        const li = this.list.querySelector(`li[data-id="${CSS.escape(chat.id)}"]`);
        if (!li) return;
        const input = el("input", { value: chat.title, "aria-label": "Title of the chat", maxLength: 200 });
        let over = false;
        const end = async (keep) => {
            if (over) return;
            over = true;
            if (keep) await this.chats.rename(chat, input.value);
            else this.show();
            this.list.querySelector(`li[data-id="${CSS.escape(chat.id)}"] a`)?.focus();
        };
        input.addEventListener("keydown", (e) => {
            e.stopPropagation();
            if (e.key === "Enter") end(true);
            if (e.key === "Escape") end(false);
        });
        input.addEventListener("blur", () => end(true));
        li.replaceChildren(input);
        input.focus();
        input.select();
    }

    async remove(chat) {
        const gone = await this.chats.remove(chat);
        toast(`“${chat.title}” was deleted.`, { label: "Undo", run: () => this.chats.restore(gone) });
        $("ask").focus();
    }

    key(e) {
        const li = e.target.closest("li[data-id]");
        if (!li || e.target.tagName === "INPUT") return;
        const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[e.key];
        if (step) {
            e.preventDefault();
            const next = li[step]?.querySelector("a");
            if (next) next.focus();
            else if (e.key === "ArrowUp") $("search").focus();
        }
        const chat = this.chats.list.find((c) => c.id === li.dataset.id);
        if (e.key === "F2") { e.preventDefault(); this.rename(chat); }
        if (e.key === "Delete") { e.preventDefault(); this.remove(chat); }
    }
}
