// The field in which a question is written, and the files that go with it.
import { $, bytes, el, icon, iconButton, toast } from "./ui.js";

const MOST = 2 * 1024 * 1024;
// A pasted text of this length becomes a file, so that the question stays readable.
const LONG_PASTE = 4000;

export class Composer {
    constructor(chats, panel, sent) {
        this.chats = chats;
        this.panel = panel;
        this.sent = sent;
        this.files = [];
        this.field = $("ask");
        this.button = $("send");
        this.field.addEventListener("input", () => this.fit());
        this.field.addEventListener("keydown", (e) => {
            if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
                e.preventDefault();
                this.send();
            }
        });
        this.field.addEventListener("paste", (e) => this.paste(e));
        this.button.addEventListener("click", () => (chats.busy ? chats.stop() : this.send()));
        $("attach").addEventListener("click", () => $("picker").click());
        $("picker").addEventListener("change", async (e) => { await this.attach(e.target.files); e.target.value = ""; });
        for (const name of ["dragover", "drop"]) {
            document.addEventListener(name, (e) => {
                if (!e.dataTransfer?.types.includes("Files")) return;
                e.preventDefault();
                // Another page has a place of its own for files.
                if (name === "drop" && !$("chat-page").hidden) this.attach(e.dataTransfer.files);
            });
        }
        this.books = $("with-documents");
        this.books.addEventListener("click", () => {
            panel.set("documents", this.books.getAttribute("aria-pressed") !== "true" || null);
            this.documents();
            this.field.focus();
        });
        chats.addEventListener("open", () => { this.state(); this.documents(); });
        chats.addEventListener("ended", () => this.state());
    }

    state() {
        const { busy } = this.chats;
        if (this.busy === busy) return;
        this.busy = busy;
        this.button.setAttribute("aria-label", busy ? "Stop" : "Send");
        this.button.title = busy ? "Stop (Esc)" : "Send (Enter)";
        this.button.classList.toggle("stop", busy);
        icon(busy ? "stop" : "send", this.button.querySelector("svg"));
    }

    // Whether questions of this chat are answered from documents.
    documents() {
        const on = Boolean(this.chats.chat?.settings.documents);
        this.books.hidden = !this.chats.props.documents;
        this.books.setAttribute("aria-pressed", String(on));
        this.books.title = on ? "Answers come from documents" : "Answer from documents";
    }

    fit() {
        this.field.style.height = "auto";
        this.field.style.height = `${Math.min(this.field.scrollHeight, innerHeight * 0.4)}px`;
    }

    async send(text = this.field.value) {
        if (this.chats.busy || (!text.trim() && !this.files.length)) return;
        const fault = this.panel.fault();
        if (fault) {
            toast(fault, { label: "Open the settings", run: () => this.panel.toggle(true) });
            return;
        }
        const { files } = this;
        this.files = [];
        this.showFiles();
        this.field.value = "";
        this.fit();
        this.sent();
        await this.chats.say(text.trim(), files);
    }

    paste(e) {
        const text = e.clipboardData?.getData("text/plain") ?? "";
        if (e.clipboardData?.files.length) {
            e.preventDefault();
            this.attach(e.clipboardData.files);
        } else if (text.length > LONG_PASTE) {
            e.preventDefault();
            this.files.push({ name: `pasted-${this.files.length + 1}.txt`, text });
            this.showFiles();
        }
    }

    async attach(list) {
        for (const file of list) {
            if (file.size > MOST) {
                toast(`${file.name} has ${bytes(file.size)}; at most ${bytes(MOST)} can be attached.`);
                continue;
            }
            const raw = new Uint8Array(await file.arrayBuffer());
            let text = null;
            try {
                if (!raw.subarray(0, 8192).includes(0)) text = new TextDecoder("utf-8", { fatal: true }).decode(raw);
            } catch {
                text = null;
            }
            if (text === null) toast(`${file.name} is no text in UTF-8. Text files alone can be attached.`);
            else this.files.push({ name: file.name, text });
        }
        this.showFiles();
        this.field.focus();
    }

    showFiles() {
        const list = $("files");
        list.hidden = !this.files.length;
        list.replaceChildren(...this.files.map((f) => el("li", {}, icon("file"), el("span", {}, f.name),
            iconButton("close", `Remove ${f.name}`, () => {
                this.files = this.files.filter((x) => x !== f);
                this.showFiles();
                this.field.focus();
            }))));
    }
}
