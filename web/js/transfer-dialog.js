// The dialog that writes chats to files and reads them back.
import { dialog, download, el, plural, toast } from "./ui.js";
import * as store from "./store.js";
import { fromJson, toJson, toMarkdown } from "./transfer.js";

const fileName = (title, end) => `${title.replace(/[^\p{L}\p{N} _-]+/gu, "").trim().slice(0, 60) || "chat"}.${end}`;

export function transferDialog(chats, go) {
    const kept = chats.list.includes(chats.chat);
    const one = async () => ({ chat: chats.chat, messages: await store.messagesOf(chats.chat.id) });
    const picker = el("input", { type: "file", accept: ".json,application/json", "aria-label": "File of chats to import" });
    picker.addEventListener("change", async () => {
        const file = picker.files[0];
        if (!file) return;
        try {
            const list = fromJson(await file.text());
            await store.putAll(list);
            await chats.load();
            toast(`${plural(list.length, "chat")} came in.`);
            picker.closest("dialog").close();
            if (list.length) go(`#/chat/${list[0].chat.id}`);
        } catch (e) {
            wrong.textContent = e.message;
        }
    });
    const wrong = el("p.wrong", { role: "alert" });
    // Pressed twice, since there is no way back.
    const wipe = el("button", {
        type: "button",
        disabled: !chats.list.length,
        onclick: async () => {
            if (!wipe.dataset.sure) {
                wipe.dataset.sure = "yes";
                wipe.textContent = `Really delete ${plural(chats.list.length, "chat")}`;
                return;
            }
            await chats.removeAll();
            wipe.closest("dialog").close();
            toast("All chats were deleted.");
        },
    }, "Delete all …");
    const button = (label, run, off) => el("button", { type: "button", onclick: run, disabled: off }, label);
    return dialog("Export, import, delete", el("div.fields", {},
        el("h3", {}, "This chat"),
        el("div.ways", {},
            button("Markdown", async () => {
                const { chat, messages } = await one();
                download(fileName(chat.title, "md"), toMarkdown(chat, messages), "text/markdown");
            }, !kept),
            button("JSON", async () => download(fileName(chats.chat.title, "json"), toJson([await one()]), "application/json"), !kept)),
        el("h3", {}, "All chats"),
        el("div.ways", {}, button("JSON", async () => {
            const list = await Promise.all(chats.list.map(async (chat) => ({ chat, messages: await store.messagesOf(chat.id) })));
            download("weft-chats.json", toJson(list), "application/json");
        }, !chats.list.length), wipe),
        el("h3", {}, "Import"),
        el("p.note", {}, "A JSON file from here. What is in this browser already stays as it is."),
        picker, wrong));
}
