// A chat is a tree of messages: each names its parent, and the chat remembers which child was chosen last. These
// functions are pure, so that they can be tested without a browser.

export const ROOT = "root";

// The children of each message, oldest first.
export function childrenOf(messages) {
    const children = new Map();
    const sorted = [...messages].sort((a, b) => a.created - b.created || (a.seq ?? 0) - (b.seq ?? 0));
    for (const m of sorted) {
        const parent = m.parent ?? ROOT;
        if (!children.has(parent)) children.set(parent, []);
        children.get(parent).push(m);
    }
    return children;
}

// The branch that is shown: from the root by the chosen child, or the newest where none was chosen.
export function pathOf(messages, choice = {}) {
    const children = childrenOf(messages);
    const path = [];
    const seen = new Set();
    for (let at = ROOT; children.has(at) && !seen.has(at);) {
        seen.add(at);
        const here = children.get(at);
        const next = here.find((m) => m.id === choice[at]) ?? here[here.length - 1];
        path.push(next);
        at = next.id;
    }
    return path;
}

// Where a message stands among its siblings: {index, count, ids}.
export function siblings(messages, message) {
    const here = childrenOf(messages).get(message.parent ?? ROOT) ?? [message];
    const ids = here.map((m) => m.id);
    return { index: ids.indexOf(message.id), count: ids.length, ids };
}

// The branch that ends at `id`, from the root.
export function ancestors(messages, id) {
    const byId = new Map(messages.map((m) => [m.id, m]));
    const path = [];
    for (let m = byId.get(id); m && path.length <= messages.length; m = byId.get(m.parent)) path.unshift(m);
    return path;
}

// The choices that lead to `id`.
export function choose(messages, choice, id) {
    const next = { ...choice };
    for (const m of ancestors(messages, id)) next[m.parent ?? ROOT] = m.id;
    return next;
}

// What is wrong with a tree from elsewhere, or null.
export function fault(messages) {
    const ids = new Set();
    for (const m of messages) {
        if (typeof m?.id !== "string" || !m.id || m.id === ROOT) return "a message has no id";
        if (ids.has(m.id)) return `two messages have the id ${m.id}`;
        if (!["user", "assistant", "tool"].includes(m.role)) return `a message has the role ${String(m.role)}`;
        if (typeof m.content !== "string") return `the message ${m.id} has no text`;
        ids.add(m.id);
    }
    for (const m of messages) {
        if (m.parent != null && !ids.has(m.parent)) return `the message ${m.id} answers one that is not there`;
        if (!ancestors(messages, m.id).some((a) => a.parent == null)) return `the message ${m.id} answers itself`;
    }
    return null;
}
