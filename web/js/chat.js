// What happens to chats: messages sent, answers streamed, stopped, continued, branched and kept.
import * as api from "./api.js";
import * as store from "./store.js";
import { ancestors, pathOf, ROOT } from "./tree.js";
import { passagesFor } from "./documents.js";
import { requestOf } from "./settings.js";

const SAVE_EVERY = 400;
const RETRIES = 8;

export class Chats extends EventTarget {
    constructor() {
        super();
        this.list = [];
        this.chat = null;
        this.messages = [];
        this.running = new Map();
        this.models = [];
        this.props = {};
    }

    tell(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }

    get path() { return pathOf(this.messages, this.chat?.choice); }
    get busy() { return this.chat !== null && this.running.has(this.chat.id); }
    get context() {
        return this.props.default_generation_settings?.n_ctx
            ?? this.models.find((m) => m.id === this.model)?.meta?.n_ctx ?? null;
    }
    // Models that answer, and not those that give vectors alone.
    get talkers() { return this.models.filter((m) => m.meta?.answers !== false); }
    get model() {
        const chosen = this.chat?.settings.model;
        const { talkers } = this;
        if (chosen && (!talkers.length || talkers.some((m) => m.id === chosen))) return chosen;
        return talkers[0]?.id ?? chosen ?? "";
    }

    async load() {
        const stored = await store.allChats();
        const known = new Map(this.list.map((c) => [c.id, c]));
        const open = known.get(this.chat?.id);
        let newer = false;
        // What another tab changed comes into the objects that are here, which answers on their way hold.
        this.list = stored.map((c) => {
            const here = known.get(c.id);
            if (!here) return c;
            if (here === open) newer = c.updated > here.updated && !this.running.has(c.id);
            const { title, named, pinned } = c;
            return Object.assign(here, this.running.has(c.id) ? { title, named, pinned } : c);
        });
        this.sort();
        this.tell("list");
        if (!open) return;
        if (!this.list.includes(open) && !this.running.has(open.id)) this.fresh();
        else if (newer) {
            this.messages = await store.messagesOf(open.id);
            this.tell("path");
        }
    }
    sort() { this.list.sort((a, b) => Number(b.pinned) - Number(a.pinned) || b.updated - a.updated); }

    // A chat that is kept only once something was said.
    fresh() {
        const now = Date.now();
        const settings = { ...(this.chat?.settings ?? {}) };
        this.chat = { id: store.newId(), title: "New chat", named: false, pinned: false, created: now, updated: now, choice: {}, settings, used: 0 };
        this.messages = [];
        this.tell("open");
    }

    async open(id) {
        const chat = this.list.find((c) => c.id === id);
        if (!chat) return false;
        // Where nothing could be kept, the open chat is all there is.
        const messages = await store.messagesOf(id).catch(() => (this.chat?.id === id ? this.messages : []));
        // An answer that still streams is the live one, not what was kept of it.
        const live = this.running.get(id)?.message;
        this.chat = chat;
        this.messages = live ? messages.map((m) => (m.id === live.id ? live : m)) : messages;
        if (live && !messages.some((m) => m.id === live.id)) this.messages.push(live);
        this.tell("open");
        return true;
    }

    async keep(chat = this.chat) {
        chat.updated = Date.now();
        if (!this.list.includes(chat)) this.list.push(chat);
        this.sort();
        await store.putChat(chat);
        this.tell("list");
    }

    async rename(chat, title) {
        chat.title = title.trim() || chat.title;
        chat.named = true;
        await store.putChat(chat);
        this.tell("list");
    }
    async pin(chat) {
        chat.pinned = !chat.pinned;
        this.sort();
        await store.putChat(chat);
        this.tell("list");
    }
    async remove(chat) {
        chat.removed = true;
        this.running.get(chat.id)?.abort.abort();
        const gone = await store.removeChat(chat.id);
        this.list = this.list.filter((c) => c !== chat);
        if (this.chat === chat) this.fresh();
        this.tell("list");
        return gone;
    }
    async removeAll() {
        for (const chat of [...this.list]) await this.remove(chat);
    }
    async restore({ chat, messages }) {
        await store.putAll([{ chat, messages }]);
        await this.load();
    }

    add(message) {
        const m = {
            id: store.newId(), chat: this.chat.id, parent: null, content: "", created: Date.now(),
            seq: this.messages.length, state: "done", ...message,
        };
        this.messages.push(m);
        this.chat.choice = { ...this.chat.choice, [m.parent ?? ROOT]: m.id };
        return m;
    }

    async say(content, files = [], parent = this.path.at(-1)?.id ?? null) {
        if (this.busy) return;
        const m = this.add({ role: "user", content, files, parent });
        if (!this.chat.named && this.chat.title === "New chat") {
            const line = (content || files[0]?.name || "").trim().split("\n")[0];
            this.chat.title = line.length > 60 ? `${line.slice(0, 59)}…` : line || "New chat";
        }
        // Nothing is awaited before the answer runs, so that a second Enter cannot send twice.
        const kept = Promise.all([this.keep(), store.putMessage(m)]);
        await this.answer(m.id);
        await kept;
    }

    // A new version of a message: a question is asked, an answer is kept as it was written.
    async edit(message, content) {
        if (this.busy) return;
        if (message.role === "user") {
            await this.say(content, message.files, message.parent);
            return;
        }
        const { id, created, stats, problem, ...rest } = message;
        const m = this.add({ ...rest, content, seq: this.messages.length, created: Date.now(), state: "done", edited: true });
        this.tell("path");
        await this.keep();
        await store.putMessage(m);
    }

    async branch(message, to) {
        if (!to || this.busy) return;
        this.chat.choice = { ...this.chat.choice, [message.parent ?? ROOT]: to };
        this.tell("path");
        await this.keep();
    }

    // Another version of an answer, by another model where one is named.
    async regenerate(message, model) {
        if (this.busy) return;
        await this.answer(message.parent, model ? { model } : {});
    }

    async answerCalls(message, results) {
        if (this.busy) return;
        let parent = message.id;
        const kept = message.calls.map((call, i) => {
            const m = this.add({ role: "tool", parent, callId: call.id, name: call.name, content: results[i] ?? "" });
            parent = m.id;
            return store.putMessage(m);
        });
        await this.answer(parent);
        await Promise.all(kept);
    }

    // Ends the wait of an answer for a server that had no room.
    hurry(message) { this.running.get(message.chat)?.hurry?.(); }

    stop() { this.running.get(this.chat?.id)?.abort.abort(); }

    // Asks for an answer below `parent`.
    async answer(parent, more = {}) {
        const { format } = this.chat.settings;
        const m = this.add({
            role: "assistant", parent, thinking: "", calls: [], model: this.model, state: "streaming",
            json: format === "json" || format === "schema", ...more,
        });
        await this.run(this.chat, m, ancestors(this.messages, parent), false);
    }

    // Goes on with an answer that ended too early.
    async resume(message) {
        if (this.running.has(message.chat)) return;
        const path = ancestors(this.messages, message.id);
        // What follows begins at a word: the server cuts spaces off the end too.
        message.content = message.content.trimEnd();
        if (message.content) {
            await this.run(this.chat, message, path, true);
        } else {
            Object.assign(message, { thinking: "", thinkMs: 0, calls: [] });
            await this.run(this.chat, message, path.slice(0, -1), false);
        }
    }

    // Asks again, into the same message where it is still empty.
    async retry(message) {
        if (this.running.has(message.chat)) return;
        if (message.content || message.calls?.length) await this.regenerate(message);
        else {
            Object.assign(message, { thinking: "", thinkMs: 0 });
            await this.run(this.chat, message, ancestors(this.messages, message.parent), false);
        }
    }

    async run(chat, message, path, resume) {
        // A model that is no longer served cannot be asked again.
        if (this.talkers.length && !this.talkers.some((m) => m.id === message.model)) message.model = this.model;
        const abort = new AbortController();
        this.running.set(chat.id, { abort, message });
        const answer = new Answer(message, () => this.tell("grow", message));
        Object.assign(message, { state: "streaming", problem: null, finish: null, progress: null });
        if (this.chat === chat) this.tell("path");
        await this.keep(chat);
        await store.putMessage(message);
        const saver = setInterval(() => { if (!chat.removed) store.putMessage(message); }, SAVE_EVERY);
        // The name of a lock tells other tabs that this answer is alive.
        const release = await alive(message.id);
        try {
            await this.attempts(chat, message, path, resume, answer, abort.signal);
            answer.end();
        } catch (e) {
            // A page that goes away breaks its own stream; what it kept stays marked as unfinished.
            if (this.leaving) return;
            answer.end();
            this.failed(message, e, abort.signal.aborted);
        } finally {
            clearInterval(saver);
            release();
            if (this.leaving) return;
            this.running.delete(chat.id);
            if (chat.removed) return;
            if (message.stats?.total) chat.used = message.stats.total;
            await store.putMessage(message);
            await this.keep(chat);
            this.tell("grow", message);
            if (this.chat === chat) this.tell("path");
            this.tell("ended", message);
        }
    }

    // Finds the passages for the last question, where this chat asks documents.
    async lookUp(chat, message, path, signal) {
        const asked = path.findLast((m) => m.role === "user");
        if (!asked?.content || !chat.settings.documents || !this.props.documents) return;
        if (!asked.passages) {
            message.progress = { note: "Looking in the documents …" };
            this.tell("grow", message);
            asked.passages = await passagesFor(asked.content, this.context, signal);
            message.progress = null;
            await store.putMessage(asked);
        }
        message.sources = asked.passages;
    }

    async attempts(chat, message, path, resume, answer, signal) {
        await this.lookUp(chat, message, path, signal);
        for (let tries = 1; ; tries += 1) {
            const kept = message.dropped ? path.slice(message.dropped) : path;
            const body = requestOf(kept, chat.settings, message.model || this.model, resume);
            message.strengths = body.lora?.map((a) => `${a.name} ${a.scale}`).join(", ") ?? "";
            try {
                answer.begin();
                await api.complete(body, signal, (chunk) => answer.take(chunk));
                return;
            } catch (e) {
                if (e.kind !== "busy" || answer.any || tries >= RETRIES) throw e;
                await this.wait(message, e, signal);
            }
        }
    }

    // Waits as long as the server asked, counting down; the person may try at once.
    wait(message, problem, signal) {
        const until = Date.now() + Math.max(0.3, problem.retryAfter) * 1000;
        return new Promise((resolve, reject) => {
            const tick = () => {
                const left = Math.max(0, Math.ceil((until - Date.now()) / 1000));
                message.problem = { kind: "busy", text: problem.message, left };
                this.tell("grow", message);
                if (Date.now() >= until) finish(resolve);
            };
            const timer = setInterval(tick, 250);
            const finish = (how, why) => {
                clearInterval(timer);
                signal.removeEventListener("abort", stopped);
                message.problem = null;
                this.tell("grow", message);
                how(why);
            };
            const stopped = () => finish(reject, new DOMException("stopped", "AbortError"));
            signal.addEventListener("abort", stopped);
            const running = this.running.get(message.chat);
            if (running) running.hurry = () => finish(resolve);
            tick();
        });
    }

    failed(message, e, stopped) {
        if (stopped || e.name === "AbortError") {
            message.state = "stopped";
            return;
        }
        const known = e instanceof api.Problem;
        if (!known) console.warn(e);
        message.state = message.content || message.thinking ? "cut" : "error";
        message.problem = {
            kind: known ? e.kind : "page", text: known ? e.message : `This page failed: ${e.message}`,
            param: e.param ?? null, requestId: e.requestId ?? null, prompt: e.prompt ?? null, context: e.context ?? null,
        };
        this.tell("problem", message);
    }

    // Sends the branch again without its oldest messages, so that it fits.
    async shorten(message) {
        const path = ancestors(this.messages, message.parent);
        const { prompt, context } = message.problem ?? {};
        const sizes = path.map((m) => m.content.length + (m.passages ?? []).concat(m.files ?? []).reduce((n, f) => n + f.text.length, 0) + 20);
        const total = sizes.reduce((a, b) => a + b, 0);
        // A quarter of the context is left for the answer.
        const room = prompt && context ? (total * 0.75 * context) / prompt : total / 2;
        let dropped = message.dropped ?? 0;
        let left = sizes.slice(dropped).reduce((a, b) => a + b, 0);
        while (dropped < path.length - 1 && (left > room || path[dropped].role !== "user")) {
            left -= sizes[dropped];
            dropped += 1;
        }
        if (dropped === (message.dropped ?? 0)) return false;
        message.dropped = dropped;
        await this.run(this.chat, message, path, false);
        return true;
    }

    // The page goes away: what was written since the last save is put where it can be put at once.
    leave() {
        this.leaving = true;
        for (const { message } of this.running.values()) store.keepLastWords(message);
    }

    // Answers whose page went away while they were written: those of this chat go on, the others are marked.
    async recover() {
        for (const kept of await store.unfinished()) {
            if (this.running.get(kept.chat)?.message.id === kept.id || !(await abandoned(kept.id))) continue;
            const here = this.chat?.id === kept.chat ? this.messages.find((m) => m.id === kept.id) : null;
            const message = here ?? kept;
            Object.assign(message, store.lastWords(kept.id));
            message.state = "cut";
            message.problem = { kind: "reload", text: "The page was closed while this was written." };
            await store.putMessage(message);
            if (here) {
                this.tell("path");
                if (this.path.at(-1) === here) this.resume(here);
            }
        }
    }
}

const [OPEN, CLOSE] = ["<think>", "</think>"];

// Gathers the chunks of one answer.
class Answer {
    constructor(message, grown) {
        this.message = message;
        this.grown = grown;
        this.any = false;
    }

    begin() {
        this.start = performance.now();
        this.first = 0;
        this.count = 0;
        this.thinkStart = 0;
        this.thinkBefore = this.message.thinkMs ?? 0;
        this.held = "";
        this.phase = this.message.content ? "plain" : "start";
    }

    take(chunk) {
        const m = this.message;
        const now = performance.now();
        const choice = chunk.choices?.[0];
        const delta = choice?.delta ?? {};
        const thought = delta.reasoning_content ?? delta.reasoning;
        if (chunk.prompt_progress) m.progress = chunk.prompt_progress;
        if (thought || delta.content || delta.tool_calls) {
            this.any = true;
            this.first ||= now;
            this.count += 1;
        }
        if (thought) this.think(thought, now);
        if (delta.content) this.text(delta.content, now);
        for (const call of delta.tool_calls ?? []) this.call(call);
        if (choice?.finish_reason) m.finish = choice.finish_reason;
        if (chunk.model) m.model = chunk.model;
        this.measure(chunk, now);
        this.grown();
    }

    think(text, now) {
        const m = this.message;
        this.thinkStart ||= now;
        m.thinking = (m.thinking ?? "") + text;
        m.thinkMs = this.thinkBefore + now - this.thinkStart;
    }

    // A server that does not tell thoughts from the answer sends them in the text, between tags at its beginning.
    text(piece, now) {
        const m = this.message;
        if (this.phase === "start") {
            this.held += piece;
            const start = this.held.trimStart();
            if (start.startsWith(OPEN)) {
                this.phase = "inside";
                m.inline = true;
                piece = start.slice(OPEN.length);
                this.held = "";
            } else if (OPEN.startsWith(start)) {
                return;
            } else {
                this.phase = "plain";
                piece = this.held;
                this.held = "";
            }
        }
        if (this.phase === "inside") {
            this.held += piece;
            const end = this.held.indexOf(CLOSE);
            // The end of what came may be the beginning of the closing tag.
            const sure = end >= 0 ? end : Math.max(0, this.held.length - CLOSE.length + 1);
            if (sure > 0) this.think(this.held.slice(0, sure), now);
            if (end < 0) {
                this.held = this.held.slice(sure);
                return;
            }
            piece = this.held.slice(end + CLOSE.length);
            this.held = "";
            this.phase = "after";
        }
        if (this.phase === "after") {
            piece = piece.trimStart();
            if (piece) this.phase = "plain";
        }
        m.content += piece;
    }

    // What was held back, once nothing more comes.
    release() {
        if (this.phase === "inside") this.think(this.held, performance.now());
        else this.message.content += this.held ?? "";
        this.held = "";
    }

    call(delta) {
        const calls = (this.message.calls ??= []);
        const call = (calls[delta.index ?? calls.length] ??= { id: "", name: "", arguments: "" });
        if (delta.id) call.id = delta.id;
        if (delta.function?.name) call.name = delta.function.name;
        call.arguments += delta.function?.arguments ?? "";
    }

    measure(chunk, now) {
        const m = this.message;
        const s = { ...(m.stats ?? {}) };
        // The first token tells nothing about the rate.
        if (this.count > 1) s.tps = ((this.count - 1) * 1000) / Math.max(1, now - this.first);
        if (this.first) s.ttft = this.first - this.start;
        if (chunk.usage) {
            const u = chunk.usage;
            Object.assign(s, {
                prompt: u.prompt_tokens, completion: u.completion_tokens, total: u.total_tokens,
                cached: u.prompt_tokens_details?.cached_tokens ?? 0,
            });
            if (u.completion_tokens > 1 && this.last > this.first) {
                s.tps = ((u.completion_tokens - 1) * 1000) / (this.last - this.first);
            }
        }
        const took = chunk.usage?.x_weft;
        if (took) {
            Object.assign(s, { queueMs: took.queue_ms, prefillMs: took.prefill_ms, decodeMs: took.decode_ms });
            if (took.decode_ms > 0 && s.completion > 1) s.tps = (s.completion * 1000) / took.decode_ms;
        }
        if (chunk.timings?.predicted_per_second) s.tps = chunk.timings.predicted_per_second;
        if (chunk.choices?.length) this.last = now;
        m.stats = s;
    }

    end() {
        const m = this.message;
        this.release();
        m.calls = (m.calls ?? []).filter(Boolean);
        m.state = m.finish === "length" ? "length" : "done";
        m.progress = null;
        if (m.json && m.content) {
            try {
                JSON.parse(m.content);
                m.valid = true;
            } catch {
                m.valid = false;
            }
        }
    }
}

const lockName = (id) => `weft-answer-${id}`;
// Holds the lock of an answer; the promise gives what releases it.
function alive(id) {
    if (!navigator.locks) return Promise.resolve(() => {});
    return new Promise((resolve) => {
        navigator.locks.request(lockName(id), () => new Promise((release) => resolve(release))).catch(() => resolve(() => {}));
    });
}
// Whether no page holds it. Without locks (plain http off loopback) nothing can be known: it is taken as abandoned.
async function abandoned(id) {
    if (!navigator.locks) return true;
    return navigator.locks.request(lockName(id), { ifAvailable: true }, (lock) => lock !== null);
}
