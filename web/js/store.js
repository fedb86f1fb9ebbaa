// Chats and messages in IndexedDB. Messages are records of their own, so that a streaming answer writes little.

let opened;

function open() {
    opened ??= new Promise((resolve, reject) => {
        const request = indexedDB.open("weft", 1);
        request.onupgradeneeded = () => {
            const db = request.result;
            db.createObjectStore("chats", { keyPath: "id" });
            db.createObjectStore("messages", { keyPath: "id" }).createIndex("chat", "chat");
        };
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
    return opened;
}

// Told once when something could not be kept: a browser may forbid storage, or have no room.
let failure = null;
let told = false;
export const onFailure = (run) => { failure = run; };
async function orTell(promise) {
    try {
        await promise;
    } catch (e) {
        if (!told) failure?.(e);
        told = true;
    }
}

const done = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
});

async function write(run) {
    const db = await open();
    return new Promise((resolve, reject) => {
        const t = db.transaction(["chats", "messages"], "readwrite", { durability: "relaxed" });
        t.oncomplete = () => resolve();
        t.onerror = () => reject(t.error);
        t.onabort = () => reject(t.error);
        run(t.objectStore("chats"), t.objectStore("messages"));
        // What is not committed yet when the page goes away is lost.
        t.commit();
    });
}

async function read(name) {
    return (await open()).transaction(name).objectStore(name);
}

const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("weft") : null;
const changed = () => channel?.postMessage("changed");
// Calls `run` when another tab has changed the list of chats.
export const onOtherTab = (run) => channel?.addEventListener("message", run);

export const newId = () => {
    const b = crypto.getRandomValues(new Uint8Array(12));
    return Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
};

export const allChats = async () => done((await read("chats")).getAll());
export const getChat = async (id) => done((await read("chats")).get(id));
export const messagesOf = async (chat) => done((await read("messages")).index("chat").getAll(chat));

export async function putChat(chat) {
    await orTell(write((chats) => chats.put(structuredClone(chat))));
    changed();
}
// A message as it is kept: without what only the page needs.
export const putMessage = (message) => orTell(write((_, messages) => messages.put(structuredClone(message))));

export async function removeChat(id) {
    const gone = { chat: await getChat(id), messages: await messagesOf(id) };
    await write((chats, messages) => {
        chats.delete(id);
        for (const m of gone.messages) messages.delete(m.id);
    });
    changed();
    return gone;
}

// Writes whole chats, all or none.
export async function putAll(list) {
    await write((chats, messages) => {
        for (const { chat, messages: ms } of list) {
            chats.put(chat);
            for (const m of ms) messages.put(m);
        }
    });
    changed();
}

// The ids of chats in which a message has all the words.
export async function search(words) {
    const found = new Set();
    const store = await read("messages");
    return new Promise((resolve, reject) => {
        const request = store.openCursor();
        request.onerror = () => reject(request.error);
        request.onsuccess = () => {
            const cursor = request.result;
            if (!cursor) { resolve(found); return; }
            const m = cursor.value;
            if (!found.has(m.chat)) {
                const text = m.content.toLowerCase();
                if (words.every((w) => text.includes(w))) found.add(m.chat);
            }
            cursor.continue();
        };
    });
}

// Messages that were being written when their page went away, each with its chat.
export async function unfinished() {
    const all = await done((await read("messages")).getAll());
    return all.filter((m) => m.state === "streaming");
}

// A page that goes away has no time for a database, but for this.
export function keepLastWords({ id, content, thinking, thinkMs }) {
    try {
        localStorage.setItem(`weft-last-${id}`, JSON.stringify({ content, thinking, thinkMs }));
    } catch {
        // Too long or forbidden: what was saved a moment ago has to do.
    }
}
export function lastWords(id) {
    try {
        const said = localStorage.getItem(`weft-last-${id}`);
        localStorage.removeItem(`weft-last-${id}`);
        return said ? JSON.parse(said) : {};
    } catch {
        return {};
    }
}
