// Keeps the page's files, so that it opens without a server; what the server answers is never kept. The network comes
// first, so that a newer server is seen at once.
const CACHE = "weft-page-1";
const FILES = [
    "./", "app.css", "manifest.webmanifest", "icons/weft.svg", "icons/weft-192.png", "icons/weft-512.png",
    "js/api.js", "js/calls.js", "js/chat.js", "js/compare.js", "js/composer.js", "js/documents.js", "js/exam.js", "js/keys.js", "js/machines.js", "js/main.js", "js/markdown.js", "js/pages.js", "js/pulls.js",
    "js/panel.js", "js/problems.js", "js/settings.js", "js/sidebar.js", "js/store.js", "js/tasks.js", "js/theme.js", "js/thread.js",
    "js/transfer.js", "js/transfer-dialog.js", "js/tree.js", "js/tune.js", "js/ui.js",
    "vendor/dompurify/purify.min.js", "vendor/marked/marked.esm.js", "vendor/temml/temml.min.js",
    "vendor/highlight/core.min.js",
    ...["bash", "c", "cpp", "css", "diff", "go", "ini", "java", "javascript", "json", "markdown", "python", "rust", "sql",
        "typescript", "xml", "yaml"].map((l) => `vendor/highlight/languages/${l}.min.js`),
];

const scope = new URL("./", self.location);
// Kept once they were asked for: the engine, where the page comes with one.
const LATER = [];
const kept = new Set([...FILES, ...LATER].map((f) => new URL(f, scope).href));

self.addEventListener("install", (event) => {
    event.waitUntil(caches.open(CACHE).then((c) => c.addAll(FILES)).then(() => self.skipWaiting()));
});
self.addEventListener("activate", (event) => {
    event.waitUntil(caches.keys()
        .then((names) => Promise.all(names.filter((n) => n.startsWith("weft-page-") && n !== CACHE).map((n) => caches.delete(n))))
        .then(() => self.clients.claim()));
});
self.addEventListener("fetch", (event) => {
    const { request } = event;
    const url = new URL(request.url);
    url.hash = "";
    url.search = "";
    if (request.method !== "GET" || !kept.has(url.href)) return;
    event.respondWith((async () => {
        const cache = await caches.open(CACHE);
        try {
            const fresh = await fetch(request);
            if (fresh.ok) {
                await cache.put(url.href, fresh.clone());
                return fresh;
            }
            return (await cache.match(url.href)) ?? fresh;
        } catch (e) {
            const old = await cache.match(url.href);
            if (old) return old;
            throw e;
        }
    })());
});
