// The static build in web/dist, served as any host would, and the engine's worker driven from a blank page of it.
import { createServer } from "node:http";
import { createReadStream, existsSync, statSync } from "node:fs";
import { extname, join, normalize } from "node:path";
import { chromium } from "playwright-core";
import { executablePath } from "./browser.mjs";
import { web } from "./mock.mjs";

export const dist = join(web, "dist");
export const missing = existsSync(join(dist, "engine", "weft_bg.wasm")) ? false : "web/dist is not built: ./dev web builds it";

const TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".wasm": "application/wasm",
    ".svg": "image/svg+xml", ".png": "image/png", ".webmanifest": "application/manifest+json", ".gguf": "application/octet-stream",
};

// Files of web/dist, and /blank, which is a page with nothing on it.
export async function host() {
    const server = createServer((req, res) => {
        const path = normalize(decodeURIComponent(new URL(req.url, "http://x").pathname));
        if (path === "/blank") { res.setHeader("content-type", TYPES[".html"]); res.end("<!doctype html><title>blank</title><link rel=icon href=data:,>"); return; }
        const file = join(dist, path.endsWith("/") ? `${path}index.html` : path);
        if (!file.startsWith(dist) || !existsSync(file) || !statSync(file).isFile()) { res.statusCode = 404; res.end(); return; }
        res.setHeader("content-type", TYPES[extname(file)] ?? "application/octet-stream");
        res.setHeader("content-length", statSync(file).size);
        createReadStream(file).pipe(res);
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const stop = () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); });
    return { url: `http://127.0.0.1:${server.address().port}/`, stop };
}

const PLAIN = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage"];
// WebGPU on the CPU, by the SwiftShader that Chromium brings.
export const launchWithGpu = (more = []) => chromium.launch({ executablePath, args: [...PLAIN, "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", ...more] });
export const launchWithoutGpu = () => chromium.launch({ executablePath, args: [...PLAIN, "--disable-gpu", "--disable-features=WebGPU", "--disable-blink-features=WebGPU"] });

// A blank page with a worker, and `call(act, fields)` in it, which gives what comes back with all parts.
export async function workerPage(browser, url) {
    const page = await (await browser.newContext()).newPage();
    const said = [];
    page.on("console", (m) => said.push(`${m.type()}: ${m.text()}`));
    page.on("pageerror", (e) => said.push(`exception: ${e.message}`));
    await page.goto(`${url}blank`);
    await page.evaluate(() => {
        const worker = new Worker("/engine/worker.js", { type: "module" });
        const waiting = new Map();
        let next = 0;
        worker.onmessage = ({ data: { id, part, done, fault } }) => {
            const w = waiting.get(id);
            if (part) { w.parts.push(part); w.on?.(part, id); return; }
            waiting.delete(id);
            w.resolve({ done, fault, parts: w.parts });
        };
        worker.onerror = (e) => { for (const w of waiting.values()) w.resolve({ fault: { kind: "worker", message: e.message ?? "the worker did not start" }, parts: w.parts }); };
        globalThis.stop = (which) => worker.postMessage({ act: "stop", which });
        globalThis.call = (act, fields = {}, on) => new Promise((resolve) => {
            const id = ++next;
            waiting.set(id, { resolve, parts: [], on });
            worker.postMessage({ id, act, ...fields });
        });
        const input = document.createElement("input");
        input.type = "file";
        document.body.append(input);
    });
    return { page, said };
}
