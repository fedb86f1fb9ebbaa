// What the page says when the server is away, busy, full or wrong, and how it goes on.
import test, { after, afterEach, before, beforeEach } from "node:test";
import assert from "node:assert/strict";
import { answers, ask, idle, launch, questions, ready, visit } from "./browser.mjs";
import { Mock } from "./mock.mjs";

let browser, mock, page, context, faults;
before(async () => { browser = await launch(); });
after(async () => { await browser?.close(); });
beforeEach(async () => {
    mock = await new Mock().start();
    ({ page, context, faults } = await visit(browser, mock.url));
});
// A browser notes each failed request in the console by itself; nothing else may stand there.
const expected = /Failed to load resource/;
afterEach(async () => {
    await context.close();
    await mock.stop();
    assert.deepEqual(faults.filter((f) => !expected.test(f)), []);
});
const problem = () => page.locator(".msg.assistant .problem p[role=alert]").innerText();
const way = (name) => page.locator(".problem button", { hasText: name });

test("the server goes and comes back: the question is asked again by itself", async () => {
    const { port } = mock;
    await mock.stop();
    await ask(page, "Are you there?");
    assert.match(await problem(), /does not answer.*weft serve/);
    await page.waitForFunction(() => document.getElementById("banner").textContent.includes("does not answer"));
    mock = await new Mock().start(port);
    mock.plan({ text: "Here again." });
    await page.waitForFunction(() => document.querySelector(".msg.assistant .md")?.textContent.includes("Here again."), null, { timeout: 60000 });
    assert.equal(await page.locator("#banner").innerText(), "");
    assert.equal(await page.locator(".problem").count(), 0);
    assert.deepEqual(await questions(page), ["Are you there?"]);
});

test("the server dies in the middle of an answer: what came is kept and continued", async () => {
    mock.plan({ text: "one two three", cut: "reset" }, { text: " four" });
    await ask(page, "Count");
    assert.match(await problem(), /broke.*kept/);
    await way("Continue").click();
    await idle(page);
    assert.deepEqual(await answers(page), ["one two three four"]);
    assert.equal(mock.chats[1].body.messages.at(-1).content, "one two three");
    assert.equal(await page.locator(".problem").count(), 0);
});

test("a stream that ends without its end is not taken for whole", async () => {
    mock.plan({ text: "one two", cut: "end" });
    await ask(page, "Count");
    assert.match(await problem(), /cut off/);
});

test("a fault after the first byte is said, with the request's number where there is one", async () => {
    mock.plan({ text: "one", fault: { message: "The device was lost.", type: "server_error", code: null } });
    await ask(page, "Count");
    assert.match(await problem(), /The device was lost\./);
    mock.plan({ status: 500, error: { message: "Broken.", type: "server_error" } });
    await ask(page, "Again");
    assert.match(await page.locator(".problem p[role=alert]").last().innerText(), /Broken\. \(request req-1\)/);
});

test("503 is shown with a countdown and tried again", async () => {
    const busy = { status: 503, error: { message: "All slots are taken.", code: "overloaded" }, headers: { "retry-after": "2" } };
    mock.plan(busy, { text: "My turn." });
    const start = Date.now();
    await ask(page, "Now?", { wait: false });
    await page.waitForSelector(".problem");
    assert.match(await problem(), /All slots are taken\./);
    assert.match(await page.locator(".problem .count").innerText(), /Trying again in [12] s\./);
    await idle(page);
    assert.ok(Date.now() - start > 1500);
    assert.deepEqual(await answers(page), ["My turn."]);
    // A person who cannot wait tries at once, or stops.
    mock.plan({ ...busy, headers: { "retry-after": "60" } }, { text: "At once." });
    await ask(page, "Quick", { wait: false });
    await way("Try now").click();
    await idle(page);
    assert.equal((await answers(page)).at(-1), "At once.");
    mock.plan({ ...busy, status: 429, headers: { "retry-after": "60" } });
    await ask(page, "Never mind", { wait: false });
    await page.waitForSelector(".problem");
    await page.keyboard.press("Escape");
    await idle(page);
    assert.equal(await page.locator(".problem").count(), 0);
    assert.equal(mock.chats.length, 5);
});

test("a full context names both numbers, and the oldest messages can be left out", async () => {
    for (let i = 0; i < 4; i += 1) await ask(page, `question ${i} ${"x".repeat(200)}`);
    mock.plan({ status: 400, error: { message: "too long", code: "context_length_exceeded", n_prompt_tokens: 3000, n_ctx: 2048 } }, { text: "Short now." });
    await ask(page, "last");
    assert.match(await problem(), /3,000 tokens.*2,048/);
    await way("Leave out").click();
    await idle(page);
    const { messages } = mock.chats.at(-1).body;
    assert.ok(messages.length < 9 && messages.length >= 1, String(messages.length));
    assert.equal(messages[0].role, "user");
    assert.equal(messages.at(-1).content, "last");
    assert.match(await page.locator(".stats").last().innerText(), /left out/);
});

test("a refused field is named, and the settings are near", async () => {
    mock.plan({ status: 400, error: { message: "top_k must be at least 0.", param: "top_k", code: "unsupported_value" } });
    await ask(page, "x");
    assert.match(await problem(), /top_k must be at least 0\. It is about “top_k”/);
    await way("Open the settings").click();
    assert.equal(await page.locator("#panel").isVisible(), true);
});

test("a model that is gone is no dead end", async () => {
    mock.plan({ status: 404, error: { message: "there is no model \"weft-mini\" here; known: other", code: "model_not_found", param: "model" } }, { text: "From the other." });
    mock.models = [{ ...mock.models[0], id: "other" }];
    await ask(page, "x");
    assert.match(await problem(), /no model "weft-mini"/);
    await way("Ask a model that is there").click();
    await page.waitForFunction(() => document.querySelector(".msg.assistant .md")?.textContent.includes("From the other."));
    assert.equal(mock.chats.at(-1).body.model, "other");
    assert.equal(await page.locator("#model").inputValue(), "other");
    mock.models = [{ id: "vectors", object: "model", meta: { answers: false } }];
    await page.reload();
    await ready(page);
    assert.match(await page.locator("#banner").innerText(), /no model that answers.*weft serve -m/);
});

test("a key that is asked for is given", async () => {
    mock.plan({ status: 401, error: { message: "no key", code: "invalid_api_key" } }, { text: "Welcome." });
    await ask(page, "x");
    await way("Enter the key").click();
    await page.fill("dialog input[type=password]", "secret");
    await page.click("dialog button.primary");
    await page.waitForFunction(() => document.querySelector(".msg.assistant .md")?.textContent.includes("Welcome."));
    assert.equal(mock.chats.at(-1).headers.authorization, "Bearer secret");
    assert.equal(await page.evaluate(() => localStorage.getItem("weft-key")), null);
});

test("a reload in the middle of an answer: what came is there, and the answer goes on", async () => {
    let free;
    mock.plan({ text: "alpha beta gamma", hold: new Promise((r) => { free = r; }) }, { text: " delta" });
    await ask(page, "Letters", { wait: false });
    await page.waitForFunction(() => document.querySelector(".msg.assistant .md")?.textContent.includes("gamma"));
    await page.reload();
    await ready(page);
    await idle(page);
    free();
    assert.deepEqual(await answers(page), ["alpha beta gamma delta"]);
    const { body } = mock.chats.at(-1);
    assert.equal(body.messages.at(-1).content, "alpha beta gamma");
    assert.equal(mock.chats[0].left, true);
});

test("an answer in one tab is not taken up by another", async () => {
    let free;
    mock.plan({ text: "alpha beta", hold: new Promise((r) => { free = r; }) });
    await ask(page, "Letters", { wait: false });
    await page.waitForFunction(() => document.querySelector(".msg.assistant .md")?.textContent.includes("beta"));
    await page.waitForTimeout(600);
    const other = await context.newPage();
    await other.goto(page.url());
    await ready(other);
    assert.equal(mock.chats.length, 1);
    free();
    await idle(page);
    assert.deepEqual(await answers(page), ["alpha beta"]);
});

test("two tabs keep one list", async () => {
    await ask(page, "from the first");
    const other = await context.newPage();
    await other.goto(page.url());
    await ready(other);
    await ask(other, "from the second");
    await page.waitForFunction(() => document.querySelectorAll(".msg.user").length === 2);
    await other.focus("#chats a");
    await other.keyboard.press("F2");
    await other.keyboard.type("Renamed");
    await other.keyboard.press("Enter");
    await page.waitForFunction(() => document.getElementById("title").textContent === "Renamed");
    await ask(page, "third");
    assert.equal(mock.chats.at(-1).body.messages.length, 5);
    assert.equal(await page.locator("#chats a").count(), 1);
    assert.equal(await other.locator("#chats a").count(), 1);
    await other.waitForFunction(() => document.querySelectorAll(".msg.user").length === 3);
    await other.focus("#chats a");
    await other.keyboard.press("Delete");
    await page.waitForFunction(() => document.querySelectorAll(".msg").length === 0);
    assert.equal(await page.evaluate(() => location.hash), "#/");
});

test("the page opens without a server once it was visited", async () => {
    await ask(page, "Keep this");
    await page.evaluate(() => navigator.serviceWorker.ready);
    await page.waitForFunction(async () => (await (await caches.open("weft-page-1")).keys()).length > 30);
    await mock.stop();
    await page.reload();
    await ready(page);
    assert.deepEqual(await questions(page), ["Keep this"]);
    assert.match(await page.locator("#banner").innerText(), /does not answer/);
    mock = await new Mock().start();
});

test("a browser that keeps nothing still chats, and says so", async () => {
    await page.addInitScript(() => {
        IDBFactory.prototype.open = () => { throw new DOMException("forbidden", "SecurityError"); };
        Storage.prototype.setItem = () => { throw new DOMException("forbidden", "SecurityError"); };
    });
    await page.reload();
    await ready(page);
    mock.plan({ text: "Still here." }, { text: "Twice." });
    await ask(page, "one");
    assert.deepEqual(await answers(page), ["Still here."]);
    assert.match(await page.locator(".toast").innerText(), /does not let the page keep chats/);
    await page.locator("[aria-label=Regenerate]").click();
    await idle(page);
    assert.deepEqual(await answers(page), ["Twice."]);
    assert.equal(await page.locator(".branch span").innerText(), "2/2");
});
