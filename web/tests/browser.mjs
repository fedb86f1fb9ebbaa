// Chromium of the system under playwright-core, with everything noted that a page must not do.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, afterEach, before, beforeEach } from "node:test";
import axe from "axe-core";
import { chromium } from "playwright-core";
import { Mock } from "./mock.mjs";

export const executablePath = process.env.WEFT_CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((p) => existsSync(p));

export const launch = () => chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--enable-precise-memory-info"],
});

// A page of its own storage at `url`. `faults` gathers console errors, exceptions and requests off the origin; a test
// that expects one takes it out.
export async function visit(browser, url, { width = 1280, height = 800, dark = false, hash = "", context: options = {} } = {}) {
    const context = await browser.newContext({
        viewport: { width, height }, colorScheme: dark ? "dark" : "light", reducedMotion: "reduce", acceptDownloads: true, ...options,
    });
    const faults = [];
    const origin = new URL(url).origin;
    context.on("request", (r) => {
        if (!r.url().startsWith(`${origin}/`) && !/^(?:blob|data):/.test(r.url())) faults.push(`asked for ${r.url().slice(0, 200)}`);
    });
    const page = await context.newPage();
    watch(page, faults);
    await page.goto(`${url}${hash}`);
    await ready(page);
    return { page, context, faults };
}

// Each test of a file has a mock server and a page of its own, which `take` is told, and ends without a fault, but for those
// that are expected.
export function pageEach(take, expected) {
    let browser, mock, context, faults;
    before(async () => { browser = await launch(); });
    after(async () => { await browser?.close(); });
    beforeEach(async () => {
        mock = await new Mock().start();
        const visited = await visit(browser, mock.url);
        ({ context, faults } = visited);
        take({ browser, mock, ...visited });
    });
    afterEach(async () => {
        await context.close();
        await mock.stop();
        assert.deepEqual(faults.filter((f) => !expected?.test(f)), []);
    });
}

export function watch(page, faults) {
    page.on("console", (m) => { if (m.type() === "error") faults.push(`console: ${m.text()} ${m.location().url}`); });
    page.on("pageerror", (e) => faults.push(`exception: ${e.stack ?? e.message}`));
}

export const ready = (page) => page.waitForSelector("html[data-ready=yes]", { state: "attached", timeout: 60000 });

export async function ask(page, text, { wait = true } = {}) {
    await page.fill("#ask", text);
    await page.press("#ask", "Enter");
    if (wait) await idle(page);
}
// Waits until no answer streams.
export const idle = (page, timeout = 60000) => page.waitForFunction(() => !globalThis.weft.chats.busy && !document.querySelector(".streaming"), null, { timeout });

export const answers = (page) => page.$$eval(".msg.assistant .md:not(.thinking .md)", (all) => all.map((n) => n.innerText.trim()));
// The text as it is in the document: one that was just shown has no innerText before its first frame (content-visibility).
export const questions = (page) => page.$$eval(".msg.user .plain", (all) => all.map((n) => n.textContent));

// axe runs in a world of its own, where the page's policy does not bind.
export async function violations(p) {
    const session = await p.context().newCDPSession(p);
    const { frameTree } = await session.send("Page.getFrameTree");
    const { executionContextId: contextId } = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id, worldName: "axe" });
    const said = async (expression) => {
        const r = await session.send("Runtime.evaluate", { expression, contextId, awaitPromise: true, returnByValue: true });
        if (r.exceptionDetails) throw new Error(r.exceptionDetails.exception?.description ?? r.exceptionDetails.text);
        return r.result.value;
    };
    await said(axe.source);
    const found = await said(`axe.run(document, { resultTypes: ["violations"] }).then((r) => r.violations.map((v) => v.id + ": " + v.nodes.map((n) => n.html.slice(0, 150) + " " + (n.any[0]?.message ?? "")).join(" | ")))`);
    await session.detach();
    return found;
}
