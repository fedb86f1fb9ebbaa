// The page stays quick: 500 tokens a second, long lines, long chats, many answers.
import test from "node:test";
import assert from "node:assert/strict";
import { ask, idle, pageEach, ready } from "./browser.mjs";

let browser, mock, page, context;
pageEach((now) => { ({ browser, mock, page, context } = now); });

const PARAGRAPH = "The **weft** goes over and under the `warp`, and [so](https://example.com) the cloth grows row by row, as it has for ten thousand years.\n\n";
const MIXED = `${PARAGRAPH.repeat(3)}- one\n- two\n- three\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n\`\`\`js\n${"let threads = warp.map((t) => t.over(weft));\n".repeat(6)}\`\`\`\n\n## A part\n\n`;

// A frame at 60 a second, and the share of a gap from which on a late frame is the page's own fault, in ms and as a part.
const FRAME = 1000 / 60;
const FAULT = 1 / 3;

// What the page's main thread did while `run` ran, frame by frame: the time that its tasks had on a processor, which others
// on the machine do not lengthen, and the time until the next frame, which they do.
async function frames(run) {
    const session = await browser.newBrowserCDPSession();
    const events = [];
    session.on("Tracing.dataCollected", ({ value }) => events.push(...value));
    const includedCategories = ["devtools.timeline", "disabled-by-default-devtools.timeline"];
    await session.send("Tracing.start", { traceConfig: { includedCategories, excludedCategories: ["*"] }, transferMode: "ReportEvents" });
    // Something is to be drawn in every frame.
    await page.evaluate(() => {
        globalThis.measured = true;
        const tick = () => { if (globalThis.measured) requestAnimationFrame(tick); };
        tick();
    });
    await run();
    await page.evaluate(() => { globalThis.measured = false; });
    const complete = new Promise((resolve) => { session.once("Tracing.tracingComplete", resolve); });
    await session.send("Tracing.end");
    await complete;
    await session.detach();
    const drawn = events.filter((e) => e.name === "FireAnimationFrame");
    const { pid, tid } = drawn[0];
    const tasks = events.filter((e) => e.name === "RunTask" && e.ph === "X" && e.pid === pid && e.tid === tid).sort((a, b) => a.ts - b.ts);
    const all = [];
    let d = 0;
    drawn.sort((a, b) => a.ts - b.ts);
    for (const task of tasks) {
        let first = false;
        for (; d < drawn.length && drawn[d].ts < task.ts + task.dur; d += 1) first = true;
        if (first) all.push({ start: task.ts, own: 0 });
        if (all.length) all.at(-1).own += (task.tdur ?? task.dur) / 1000;
    }
    return all.slice(0, -1).map(({ start, own }, i) => ({ own, gap: (all[i + 1].start - start) / 1000 }));
}
// A frame that the page's own work kept from being in time, and not what else the machine did.
const late = ({ own, gap }) => own > FRAME && own > gap * FAULT;
const at = (list, q) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(q * list.length))];
const sum = (list) => list.reduce((a, b) => a + b, 0);

test("500 tokens a second are drawn without dropped frames", async (t) => {
    const text = MIXED.repeat(24);
    const tokens = text.match(/\s*\S+|\s+$/g).length;
    mock.plan({ text, rate: 500 });
    const all = await frames(async () => {
        await ask(page, "Weave", { wait: false });
        await idle(page, 60000);
    });
    const [own, gaps] = [all.map((f) => f.own), all.map((f) => f.gap)];
    const token = sum(own) / tokens;
    const dropped = all.filter(late).length / all.length;
    const ms = (x) => Math.round(x * 100) / 100;
    t.diagnostic(`${tokens} tokens in ${ms(sum(gaps) / 1000)} s, ${ms(token)} ms of the page's thread a token; ${all.length} frames of ${ms(at(own, 0.5))} ms (${ms(at(own, 0.95))} in one of twenty, ${ms(at(own, 1))} at most), ${ms(at(gaps, 0.5))} ms apart (${ms(at(gaps, 0.95))}); ${ms(100 * dropped)} % late for the page's work`);
    assert.ok(all.length > 100, `${all.length} frames`);
    // The rate leaves 2 ms for a token.
    assert.ok(token < 1, `a token costs ${token} ms`);
    assert.ok(at(own, 0.5) < FRAME / 2, `a frame costs ${at(own, 0.5)} ms`);
    assert.ok(dropped < 0.02, `${dropped} of the frames came late by the page's own work`);
    // What the page shows is what arrived, and it does not lie behind.
    const [chat] = mock.chats;
    const rate = Number(/(\d+) t\/s/.exec(await page.locator(".stats").innerText())[1]);
    assert.ok(Math.abs(rate - chat.rate) < chat.rate / 10, `${rate} t/s where ${chat.rate} were sent`);
});

test("work of the page that is too much for a frame is seen", async () => {
    const all = await frames(() => page.evaluate(async () => {
        for (let i = 0; i < 24; i += 1) {
            await new Promise(requestAnimationFrame);
            for (const end = performance.now() + (i % 2 ? 80 : 1); performance.now() < end;);
        }
    }));
    const share = all.filter(late).length / all.length;
    assert.ok(share > 0.2, `${share} of ${all.length} frames`);
});

test("a streamed answer looks as it does when it is drawn at once", async () => {
    const text = `${MIXED}[late]: https://example.com/late\n\nA [link][late], $$\nx\n\ny\n$$\n\n1. one\n\n   more\n\n2. two\n\n> quote\n> more\n\n<b>raw</b>\n\n${MIXED}`;
    const same = await page.evaluate(async (source) => {
        const { Growing } = await import(new URL("js/markdown.js", location.href));
        const whole = document.createElement("div");
        new Growing(whole).set(source, true);
        const flat = (root) => root.innerHTML.replaceAll("<div class=\"tail\">", "").replace(/<\/div>$/, "").replace(/\n/g, "");
        const wrong = [];
        let seed = 7;
        const random = (n) => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed % n; };
        for (let round = 0; round < 30; round += 1) {
            const root = document.createElement("div");
            const growing = new Growing(root);
            for (let at = 0; at < source.length;) {
                at = Math.min(source.length, at + 1 + random(round < 3 ? 3 : 80));
                growing.set(source.slice(0, at), false);
            }
            growing.set(source, true);
            if (root.textContent.replace(/\s+/g, "") !== whole.textContent.replace(/\s+/g, "")) wrong.push(round);
            if (root.querySelectorAll("*").length !== whole.querySelectorAll("*").length && flat(root) !== flat(whole)) wrong.push(`${round}: ${root.querySelectorAll("*").length} of ${whole.querySelectorAll("*").length}`);
        }
        return wrong;
    }, text);
    // A tail stands around the last block while it grows; every other element is the same.
    assert.deepEqual(same, []);
});

test("a line of a megabyte and a fence without an end do not stall the page", async (t) => {
    for (const [name, text] of [["line", "a**b_c`d[e](f ".repeat(75000)], ["fence", `\`\`\`js\n${"let x = `a`; // *b*\n".repeat(50000)}`], ["brackets", "[".repeat(60000)], ["quotes", "> ".repeat(3000)]]) {
        mock.plan({ text, chunk: /[\s\S]{1,4000}/g });
        const start = Date.now();
        await ask(page, name, { wait: false });
        await idle(page, 60000);
        const asked = Date.now();
        assert.equal(await page.evaluate(() => 1 + 1), 2);
        t.diagnostic(`${name}: ${asked - start} ms, then ${Date.now() - asked} ms`);
        assert.ok(asked - start < 20000, name);
        assert.ok(Date.now() - asked < 3000, name);
        const length = await page.locator(".msg.assistant .md").last().evaluate((n) => n.textContent.length);
        if (name !== "quotes") assert.ok(length >= text.length * 0.98 - 10, `${name}: ${length} of ${text.length}`);
    }
});

test("200 answers leave the page's memory flat", async (t) => {
    const heap = async () => {
        const session = await context.newCDPSession(page);
        await session.send("HeapProfiler.collectGarbage");
        const { usedSize } = await session.send("Runtime.getHeapUsage");
        const { nodes } = await session.send("Memory.getDOMCounters");
        await session.detach();
        return { usedSize, nodes };
    };
    const many = (n) => page.evaluate(async (count) => {
        for (let i = 0; i < count; i += 1) await globalThis.weft.chats.say(`question ${i}`);
    }, n);
    for (let i = 0; i < 400; i += 1) mock.plan({ text: MIXED });
    await many(60);
    const before = await heap();
    await many(140);
    const after = await heap();
    t.diagnostic(`${JSON.stringify(before)} → ${JSON.stringify(after)}`);
    const grown = (after.usedSize - before.usedSize) / 2 ** 20;
    assert.ok(grown < 6, `${grown.toFixed(1)} MiB for 140 answers`);
    assert.ok(after.nodes < before.nodes * 1.3, `${before.nodes} nodes became ${after.nodes}`);
    assert.ok((await page.locator(".msg").count()) <= 60);
});

test("a chat of 1,000 messages opens and scrolls", async (t) => {
    await page.evaluate(async (text) => {
        const store = await import(new URL("js/store.js", location.href));
        const chat = { id: "long", title: "Long", named: true, pinned: false, created: 1, updated: 1, choice: {}, settings: {}, used: 0 };
        const messages = Array.from({ length: 1000 }, (_, i) => ({
            id: `m${i}`, chat: "long", parent: i ? `m${i - 1}` : null, role: i % 2 ? "assistant" : "user", content: i % 2 ? text : `question ${i}`, created: i, seq: i, state: "done",
        }));
        await store.putAll([{ chat, messages }]);
    }, MIXED);
    await page.reload();
    await ready(page);
    const start = Date.now();
    await page.click("#chats a");
    await page.waitForFunction(() => document.querySelectorAll(".msg").length >= 60);
    t.diagnostic(`opened in ${Date.now() - start} ms`);
    assert.ok(Date.now() - start < 4000);
    const end = await page.evaluate(() => { const s = document.getElementById("scroll"); return s.scrollHeight - s.scrollTop - s.clientHeight; });
    assert.ok(end < 60, `${end} px from the end`);
    for (let i = 0; i < 3; i += 1) await page.locator(".earlier").click();
    assert.equal(await page.locator(".msg").count(), 240);
    assert.match(await page.locator(".msg").first().textContent(), /question 760/);
});

test("the first paint on a slow phone comes within a second", async (t) => {
    const phone = await browser.newContext({ viewport: { width: 360, height: 740 } });
    const p = await phone.newPage();
    const session = await phone.newCDPSession(p);
    await session.send("Emulation.setCPUThrottlingRate", { rate: 4 });
    await p.goto(mock.url);
    await ready(p);
    const at = await p.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
    t.diagnostic(`${Math.round(at)} ms`);
    assert.ok(at < 1000, `${at} ms`);
    await phone.close();
});
