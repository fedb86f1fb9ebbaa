// What only the real server shows: its settings, its faults, its pages, and that other sites reach nothing.
import test, { after, before } from "node:test";
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { join } from "node:path";
import { answers, ask, idle, launch, ready, violations, visit } from "./browser.mjs";
import { sleep, web } from "./mock.mjs";
import { missing, Weft } from "./weft.mjs";
import { webp } from "./webp.mjs";

let browser, weft;
before(async () => {
    if (missing) return;
    browser = await launch();
    weft = await new Weft().start();
});
after(async () => { await browser?.close(); await weft?.stop(); });
const expected = /Failed to load resource|net::ERR/;
const real = (name, run) => test(name, { skip: missing }, run);
const ENDLESS = { model: "weft-mini", messages: [{ role: "user", content: "Hi" }], ignore_eos: true, max_tokens: 900, stream: true };

real("the screen of the README is a real answer", async () => {
    const { page, context, faults } = await visit(browser, weft.url, { width: 1200, height: 720 });
    await ask(page, "A current of 2 A flows through a resistor of 18 ohms. What is the voltage?", { wait: false });
    await idle(page, 60000);
    await page.locator(".thinking summary").click();
    await page.keyboard.press("Alt+S");
    await page.locator(".toast").waitFor({ state: "detached" });
    assert.equal((await answers(page))[0], "The answer is 36 V.");
    await page.mouse.move(700, 600);
    if (process.env.WEFT_SCREENS === "1") await webp(page, join(web, "screens", "weft-mini.webp"));
    assert.deepEqual(await violations(page), []);
    assert.deepEqual(faults, []);
    await context.close();
});

real("all sampling settings are taken, and the same seed gives the same text", async () => {
    const { page, context, faults } = await visit(browser, weft.url);
    await page.keyboard.press("Alt+S");
    for (const [key, value] of Object.entries({
        temperature: 1.5, top_p: 0.9, top_k: 20, min_p: 0.01, repeat_penalty: 1.1, presence_penalty: 0.2, frequency_penalty: 0.1, seed: 7, max_tokens: 24,
    })) await page.fill(`#panel [data-key=${key}]`, String(value));
    await page.fill("#panel [data-key=stop]", "qqqq\\n");
    await page.fill("#panel [data-key=system]", "Be brief.");
    await ask(page, "Tell me something");
    const text = () => page.evaluate(() => { const m = globalThis.weft.chats.path.at(-1); return [m.problem, (m.thinking ?? "") + m.content]; });
    const [problem, first] = await text();
    assert.equal(problem, null);
    await page.keyboard.press("Alt+R");
    await idle(page);
    assert.deepEqual(await text(), [null, first]);
    assert.deepEqual(faults, []);
    await context.close();
});

real("a reload in mid-answer goes on; stop frees the slot; a full context is told", async () => {
    const { page, context, faults } = await visit(browser, weft.url);
    const endless = (on) => page.evaluate((yes) => {
        const { fetch: real } = globalThis;
        globalThis.fetch = (url, init) => real(url, init?.body && yes ? { ...init, body: JSON.stringify({ ...JSON.parse(init.body), ignore_eos: true, max_tokens: 700, temperature: 1.2 }) } : init);
    }, on);
    await endless(true);
    await ask(page, "What is 3 + 4?", { wait: false });
    await page.waitForFunction(() => globalThis.weft.chats.path.at(-1)?.content?.length > 60, null, { timeout: 60000 });
    assert.equal(await weft.drawing(), 1);
    const before = await page.evaluate(() => globalThis.weft.chats.path.at(-1).content);
    await page.reload();
    await ready(page);
    await idle(page, 60000);
    const { content, state } = await page.evaluate(() => globalThis.weft.chats.path.at(-1));
    assert.ok(content.startsWith(before.trimEnd()), content);
    assert.notEqual(state, "streaming");
    await endless(true);
    await ask(page, "What is 5 + 6?", { wait: false });
    await page.waitForFunction(() => { const m = globalThis.weft.chats.path.at(-1); return m.state === "streaming" && (m.content || m.thinking); }, null, { timeout: 60000 });
    await page.keyboard.press("Escape");
    await idle(page);
    for (let i = 0; (await weft.drawing()) && i < 100; i += 1) await sleep(20);
    assert.equal(await weft.drawing(), 0);
    await ask(page, "long ".repeat(1500));
    assert.match(await page.locator(".problem p[role=alert]").innerText(), /has [\d,]+ tokens, and the model's context holds 1,024/);
    assert.deepEqual(faults.filter((f) => !expected.test(f)), []);
    await context.close();
});

real("a schema that goes in holds, whatever the model would say", async () => {
    const { page, context, faults } = await visit(browser, weft.url);
    await page.click("#settings");
    await page.selectOption("[data-key=format]", "schema");
    const schema = { type: "object", properties: { colour: { enum: ["red", "green"] }, count: { type: "integer", minimum: 3, maximum: 5 } }, required: ["colour", "count"], additionalProperties: false };
    await page.fill("[data-key=schema]", JSON.stringify(schema));
    await page.selectOption("[data-key=thinking]", "off");
    for (const question of ["What is 17 + 25?", "{"]) {
        await page.keyboard.press("Alt+N");
        await ask(page, question, { wait: false });
        await idle(page, 60000);
        const m = await page.evaluate(() => { const { content, valid, problem } = globalThis.weft.chats.path.at(-1); return { content, valid, problem }; });
        assert.equal(m.problem, null);
        const value = JSON.parse(m.content);
        assert.deepEqual([Object.keys(value), ["red", "green"].includes(value.colour), [3, 4, 5].includes(value.count), m.valid], [["colour", "count"], true, true, true]);
    }
    await page.fill("[data-key=schema]", "{\"type\": \"object\", \"propertyNames\": {\"pattern\": \"(?=a)b\"}}");
    await ask(page, "Refused");
    assert.match(await page.locator(".problem p[role=alert]").last().innerText(), /did not take the request: .*propertyNames/);
    assert.deepEqual(faults.filter((f) => !expected.test(f)), []);
    await context.close();
});

real("a tool that must be called is called, and its result is read", async () => {
    const { page, context, faults } = await visit(browser, weft.url);
    await page.click("#settings");
    // A model of this size would not end a free text, so the cities are named.
    await page.fill("[data-key=tools]", JSON.stringify([{ name: "get_weather", description: "The weather now", parameters: {
        type: "object", properties: { city: { enum: ["Accra", "Lomé"] } }, required: ["city"], additionalProperties: false,
    } }]));
    await page.selectOption("[data-key=tool_choice]", "required");
    await page.selectOption("[data-key=thinking]", "off");
    await ask(page, "What is the weather in Accra?");
    const { calls, problem } = await page.evaluate(() => globalThis.weft.chats.path.at(-1));
    assert.equal(problem, null);
    assert.equal(calls[0].name, "get_weather");
    assert.ok(["Accra", "Lomé"].includes(JSON.parse(calls[0].arguments).city), calls[0].arguments);
    assert.match(await page.locator(".call").first().innerText(), /get_weather/);
    await page.selectOption("[data-key=tool_choice]", "none");
    for (let i = 0; i < calls.length; i += 1) await page.fill(`[data-call='${i}']`, "31 degrees");
    await page.locator(".calls button.primary").click();
    await idle(page, 60000);
    const last = await page.evaluate(() => globalThis.weft.chats.path.at(-1));
    assert.deepEqual([last.role, last.problem, last.calls], ["assistant", null, []]);
    assert.ok(last.content || last.thinking);
    assert.deepEqual(faults, []);
    await context.close();
});

real("Models and Device show what the server says", async () => {
    const { page, context, faults } = await visit(browser, weft.url, { hash: "#/models" });
    await page.waitForSelector("#page dl");
    assert.match(await page.locator("#page").innerText(), /weft-mini[\s\S]*1,024 tokens[\s\S]*Slots/);
    const load = () => page.locator("[data-load]").innerText();
    await page.waitForSelector("[data-load] dl");
    assert.match(await load(), /Answers now\s+0/);
    const running = page.evaluate((body) => fetch("v1/chat/completions", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }).then((r) => r.text()), ENDLESS);
    await page.waitForFunction(() => /Answers now\s*1/.test(document.querySelector("[data-load]").textContent) && !/now0/.test(document.querySelector("[data-load]").textContent.replace(/\s/g, "")), null, { timeout: 60000 });
    await running;
    assert.deepEqual(await violations(page), []);
    await page.goto(`${weft.url}#/device`);
    await page.waitForFunction(() => document.querySelector("#page [aria-label=Limits]"));
    assert.match(await page.locator("#page").innerText(), /Backend\s+vulkan[\s\S]*Subgroups[\s\S]*Max buffer size/i);
    assert.deepEqual(await violations(page), []);
    assert.deepEqual(faults, []);
    await context.close();
});

real("the server is killed in mid-answer and comes back", async () => {
    const other = await new Weft().start();
    const { page, context } = await visit(browser, other.url);
    await ask(page, "What is 17 + 25?");
    await other.stop("SIGKILL");
    await ask(page, "What is 1 + 2?");
    assert.match(await page.locator(".problem p[role=alert]").innerText(), /does not answer/);
    await other.start(other.port);
    await page.waitForFunction(() => globalThis.weft.chats.path.at(-1)?.content.includes("3"), null, { timeout: 60000 });
    await context.close();
    await other.stop();
});

real("a key is asked for, once", async () => {
    const { writeFileSync, mkdtempSync } = await import("node:fs");
    const { tmpdir } = await import("node:os");
    const file = join(mkdtempSync(join(tmpdir(), "weft-key-")), "keys");
    writeFileSync(file, "a-key-for-the-tests-1\n", { mode: 0o600 });
    const other = await new Weft().start(0, ["--api-key-file", file]);
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(other.url);
    await page.fill("dialog input[type=password]", "a-key-for-the-tests-1");
    await page.click("dialog button.primary");
    await page.waitForFunction(() => document.querySelector("#welcome h2")?.textContent.includes("weft-mini"));
    await ask(page, "What is 17 + 25?");
    assert.deepEqual(await answers(page), ["The answer is 42."]);
    await context.close();
    await other.stop();
});

// All that a page can do to reach another origin; each says what it saw of the answer.
const attack = async ({ target, body }) => {
    const json = JSON.stringify(body);
    const seen = {};
    const tried = async (name, run) => {
        try {
            seen[name] = await Promise.race([run(), new Promise((r) => { setTimeout(() => r("nothing"), 3000); })]);
        } catch {
            seen[name] = "nothing";
        }
    };
    const said = async (r) => (r.type === "opaque" ? "nothing" : `status ${r.status}: ${(await r.text()).slice(0, 80)}`);
    const post = (more) => fetch(`${target}v1/chat/completions`, { method: "POST", body: json, ...more }).then(said);
    await tried("get", () => fetch(`${target}v1/models`).then(said));
    await tried("get no-cors", () => fetch(`${target}props`, { mode: "no-cors" }).then(said));
    await tried("get with credentials", () => fetch(`${target}slots`, { credentials: "include" }).then(said));
    await tried("post json", () => post({ headers: { "content-type": "application/json" } }));
    await tried("post text", () => post({ headers: { "content-type": "text/plain" } }));
    await tried("post no-cors", () => post({ mode: "no-cors" }));
    await tried("post no-cors json", () => post({ mode: "no-cors", headers: { "content-type": "application/json" } }));
    await tried("post blob", () => post({ mode: "no-cors", body: new Blob([json], { type: "application/json" }) }));
    await tried("beacon", async () => { navigator.sendBeacon(`${target}v1/chat/completions`, new Blob([json], { type: "text/plain" })); return "nothing"; });
    await tried("xhr", () => new Promise((resolve) => {
        const x = new XMLHttpRequest();
        x.open("POST", `${target}v1/chat/completions`);
        x.setRequestHeader("content-type", "application/json");
        x.onload = () => resolve(x.responseText);
        x.onerror = () => resolve("nothing");
        x.send(json);
    }));
    await tried("events", () => new Promise((resolve) => { const e = new EventSource(`${target}v1/models`); e.onmessage = (m) => resolve(m.data); e.onerror = () => { e.close(); resolve("nothing"); }; }));
    await tried("form", async () => {
        const frame = document.createElement("iframe");
        frame.name = "into";
        const form = document.createElement("form");
        Object.assign(form, { method: "POST", action: `${target}v1/chat/completions`, enctype: "text/plain", target: "into" });
        const field = document.createElement("input");
        Object.assign(field, { name: json.slice(0, -1), value: "}" });
        form.append(field);
        document.body.append(frame, form);
        form.submit();
        await new Promise((r) => { setTimeout(r, 700); });
        return frame.contentDocument?.body?.textContent || "nothing";
    });
    for (const [name, tag, key] of [["script", "script", "src"], ["picture", "img", "src"]]) {
        await tried(name, () => new Promise((resolve) => {
            const node = document.createElement(tag);
            node.onload = () => resolve("loaded");
            node.onerror = () => resolve("nothing");
            node[key] = `${target}${tag === "img" ? "icons/weft.svg" : "js/theme.js"}`;
            document.body.append(node);
        }));
    }
    await tried("frame", async () => {
        const frame = document.createElement("iframe");
        frame.src = target;
        document.body.append(frame);
        await new Promise((r) => { setTimeout(r, 700); });
        try { return frame.contentWindow.document.title || "nothing"; } catch { return "nothing"; }
    });
    await tried("window", async () => {
        const opened = window.open(target);
        await new Promise((r) => { setTimeout(r, 700); });
        try { return opened.document.title || "nothing"; } catch { return "nothing"; }
    });
    return seen;
};

real("a page of another origin reads nothing and starts nothing", async () => {
    const server = createServer((_, res) => { res.writeHead(200, { "content-type": "text/html" }); res.end("<!doctype html><title>evil</title><body>"); });
    await new Promise((r) => { server.listen(0, r); });
    const { port } = server.address();
    const peaks = [];
    let watching = true;
    const watcher = (async () => { while (watching) { peaks.push(await weft.drawing()); await sleep(25); } })();
    // Another port of this address, and another name of this computer.
    for (const origin of [`http://127.0.0.1:${port}/`, `http://localhost:${port}/`]) {
        for (const target of [weft.url, weft.url.replace("127.0.0.1", "localhost")]) {
            const context = await browser.newContext();
            const page = await context.newPage();
            await page.goto(origin);
            const seen = await page.evaluate(attack, { target, body: ENDLESS });
            assert.equal(Object.keys(seen).length, 16);
            assert.deepEqual(Object.entries(seen).filter(([, what]) => what !== "nothing"), [], `${origin} → ${target}`);
            const frames = page.frames().map((f) => f.url());
            assert.ok(!frames.some((u) => u.startsWith(target) && !u.includes("completions")), `framed: ${frames}`);
            await context.close();
        }
    }
    assert.equal(Math.max(...peaks), 0);
    // The same request from the page itself starts an answer: what was refused is the origin, not the request.
    const { page, context } = await visit(browser, weft.url);
    const seen = page.evaluate(async (body) => { const r = await fetch("v1/chat/completions", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }); return (await r.text()).length; }, ENDLESS);
    assert.ok((await seen) > 1000);
    watching = false;
    await watcher;
    assert.equal(Math.max(...peaks), 1);
    await context.close();
    server.close();
});
