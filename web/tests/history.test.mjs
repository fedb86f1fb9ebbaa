// Chats that were had: search, rename, pin, delete, export and import; settings, tools, files and the keyboard.
import test from "node:test";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { answers, ask, idle, pageEach, questions, ready, violations } from "./browser.mjs";

let mock, page;
pageEach((now) => { ({ mock, page } = now); });
const titles = () => page.$$eval("#chats a", (all) => all.map((a) => a.textContent));
const until = (what, arg) => page.waitForFunction(what, arg, { timeout: 30000 });

test("chats are found by what was said, renamed, pinned, deleted and brought back", async () => {
    mock.plan({ text: "It is a loom." }, { text: "It is a shuttle." }, { text: "It is a thread." });
    for (const q of ["first question", "second question", "third question"]) {
        await ask(page, q);
        await page.keyboard.press("Alt+N");
    }
    assert.deepEqual(await titles(), ["third question", "second question", "first question"]);
    await page.keyboard.press("Control+K");
    await page.keyboard.type("shuttle");
    await until(() => document.querySelectorAll("#chats a").length === 1);
    assert.deepEqual(await titles(), ["second question"]);
    await page.keyboard.press("Enter");
    await until(() => document.querySelector(".msg.assistant")?.textContent.includes("shuttle"));
    await page.fill("#search", "");
    await until(() => document.querySelectorAll("#chats a").length === 3);
    await page.focus("#chats li:nth-child(3) a");
    await page.keyboard.press("F2");
    await page.keyboard.type("Looms");
    await page.keyboard.press("Enter");
    await until(() => document.querySelector("#chats li:nth-child(3) a")?.textContent === "Looms");
    await page.hover("#chats li:nth-child(3)");
    await page.click("#chats li:nth-child(3) .pin");
    await until(() => document.querySelector("#chats a").textContent === "Looms");
    await page.focus("#chats li:nth-child(2) a");
    await page.keyboard.press("Delete");
    await until(() => document.querySelectorAll("#chats a").length === 2);
    await page.reload();
    await ready(page);
    assert.deepEqual(await titles(), ["Looms", "second question"]);
    await page.focus("#chats li:nth-child(2) a");
    await page.keyboard.press("Delete");
    await page.click(".toast button");
    await until(() => document.querySelectorAll("#chats a").length === 2);
    await page.click("#chats li:nth-child(2) a");
    await until(() => document.querySelector(".msg.assistant")?.textContent.includes("shuttle"));
});

test("export and import are a round trip", async () => {
    mock.plan({ thinking: "hm", text: "one `x`" }, { text: "two" });
    await page.setInputFiles("#picker", { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("some notes") });
    await ask(page, "first");
    await page.locator("[aria-label=Regenerate]").click();
    await idle(page);
    const save = async (scope, label) => {
        await page.click("#export");
        const [file] = await Promise.all([page.waitForEvent("download"), page.locator("dialog .ways").nth(scope).getByText(label).click()]);
        await page.keyboard.press("Escape");
        return readFileSync(await file.path(), "utf8");
    };
    const json = await save(0, "JSON");
    const markdown = await save(0, "Markdown");
    assert.equal(await save(1, "JSON"), json);
    assert.match(markdown, /^# first\n\n## You\n\n\*File: notes\.txt\*\n\n````\nsome notes\n````\n\nfirst\n\n## weft-mini\n\ntwo\n$/);
    const load = async (text) => {
        await page.click("#export");
        await page.setInputFiles("dialog input[type=file]", { name: "c.json", mimeType: "application/json", buffer: Buffer.from(text) });
    };
    await load(json);
    await until(() => document.querySelectorAll("#chats a").length === 2);
    assert.deepEqual([await questions(page), await answers(page)], [["first"], ["two"]]);
    assert.equal(await page.locator(".branch span").innerText(), "2/2");
    const again = await save(0, "JSON");
    // The same but for ids.
    const plain = (text) => {
        const ids = new Map();
        return JSON.stringify(JSON.parse(text.replace(/"[0-9a-f]{24}"/g, (id) => {
            if (!ids.has(id)) ids.set(id, `"id${ids.size}"`);
            return ids.get(id);
        })).chats.map(({ chat, messages }) => [
            chat.title, chat.settings, Object.entries(chat.choice).length, messages.map((m) => [m.role, m.content, m.thinking ?? "", m.files ?? [], m.stats ?? {}, m.state]).sort(),
        ]));
    };
    assert.equal(plain(again), plain(json));
    for (const [text, sentence] of [["{", /no JSON/], ["{}", /no chats of this page/], [json.replace("\"version\": 1", "\"version\": 9"), /version 9/],
        [json.replace("\"role\": \"user\"", "\"role\": \"root\""), /role root/]]) {
        await load(text);
        await until(() => document.querySelector("dialog .wrong").textContent);
        assert.match(await page.locator("dialog .wrong").innerText(), sentence);
        await page.keyboard.press("Escape");
    }
    assert.equal((await titles()).length, 2);
});

test("settings belong to a chat, are checked, sent and reset", async () => {
    await page.keyboard.press("Alt+S");
    const field = (key) => page.locator(`#panel [data-key=${key}]`);
    assert.equal(await field("top_k").getAttribute("placeholder"), "40");
    await field("system").fill("Be brief.");
    await field("temperature").fill("7");
    assert.match(await page.locator("#wrong-temperature").innerText(), /between 0 and 2/);
    await field("temperature").fill("0.7");
    await field("seed").fill("3");
    await ask(page, "x");
    const { body } = mock.chats[0];
    assert.equal(body.temperature, 0.7);
    assert.equal(body.seed, 3);
    assert.equal(body.messages[0].content, "Be brief.");
    assert.equal("top_k" in body, false);
    await page.waitForTimeout(400);
    await page.reload();
    await ready(page);
    await page.keyboard.press("Alt+S");
    assert.equal(await field("temperature").inputValue(), "0.7");
    // A setting is kept at once where the page goes away.
    await field("top_k").fill("17");
    await page.reload();
    await ready(page);
    await page.keyboard.press("Alt+S");
    assert.equal(await field("top_k").inputValue(), "17");
    await page.getByText("Reset all").click();
    assert.equal(await field("temperature").inputValue(), "");
    await page.keyboard.press("Escape");
    await ask(page, "y");
    assert.equal("temperature" in mock.chats[1].body, false);
    assert.equal(mock.chats[1].body.messages[0].role, "user");
});

test("a schema goes in and JSON comes out", async () => {
    await page.click("#settings");
    await page.selectOption("[data-key=format]", "schema");
    await page.fill("#ask", "x");
    await page.press("#ask", "Enter");
    assert.match(await page.locator(".toast").innerText(), /Write a JSON schema/);
    await page.locator("#panel button", { hasText: "example" }).first().click();
    mock.plan({ text: "{\"answer\":42,\"unit\":\"m\"}", chunk: /.{1,3}/g });
    await page.press("#ask", "Enter");
    await idle(page);
    const { response_format: format } = mock.chats[0].body;
    assert.equal(format.type, "json_schema");
    assert.deepEqual(format.json_schema.schema.required, ["answer"]);
    assert.match((await answers(page))[0], /\{\n {2}"answer": 42,\n {2}"unit": "m"\n\}/);
    assert.match(await page.locator(".stats").innerText(), /valid JSON/);
    mock.plan({ text: "{\"answer\":", finish: "length" });
    await ask(page, "again");
    assert.match(await page.locator(".stats").last().innerText(), /no valid JSON.*most tokens/);
});

test("a tool is tried by hand", async () => {
    await page.click("#settings");
    await page.locator("#panel button", { hasText: "example" }).last().click();
    await page.selectOption("[data-key=tool_choice]", "required");
    mock.plan({ text: "", calls: [{ id: "c1", name: "get_weather", arguments: "{\"city\":\"Accra\"}" }, { id: "c2", name: "get_weather", arguments: "{\"city\":\"Lomé\"}" }] });
    await ask(page, "Weather?");
    assert.equal(mock.chats[0].body.tools[0].function.name, "get_weather");
    assert.equal(mock.chats[0].body.tool_choice, "required");
    assert.deepEqual(await page.locator(".call pre").allInnerTexts(), ["{\n  \"city\": \"Accra\"\n}", "{\n  \"city\": \"Lomé\"\n}"]);
    await page.fill("[data-call='0']", "31 °C");
    await page.fill("[data-call='1']", "30 °C");
    mock.plan({ text: "Warm in both." });
    await page.getByText("Send the results").click();
    await idle(page);
    assert.deepEqual(mock.chats[1].body.messages.slice(1).map((m) => [m.role, m.tool_call_id ?? m.tool_calls.length, m.content]), [
        ["assistant", 2, ""], ["tool", "c1", "31 °C"], ["tool", "c2", "30 °C"],
    ]);
    assert.equal((await answers(page)).at(-1), "Warm in both.");
});

test("text files are attached, and others are refused with a sentence", async () => {
    await page.setInputFiles("#picker", [
        { name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("héllo") },
        { name: "b.bin", mimeType: "application/octet-stream", buffer: Buffer.from([1, 0, 2]) },
    ]);
    assert.match(await page.locator(".toast").innerText(), /b\.bin is no text/);
    assert.deepEqual(await page.locator("#files span").allInnerTexts(), ["a.txt"]);
    await page.evaluate(() => {
        const data = new DataTransfer();
        data.setData("text/plain", "z".repeat(5000));
        document.getElementById("ask").dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, cancelable: true, bubbles: true }));
    });
    assert.deepEqual(await page.locator("#files span").allInnerTexts(), ["a.txt", "pasted-2.txt"]);
    await page.click("[aria-label='Remove pasted-2.txt']");
    await ask(page, "Read");
    assert.equal(mock.chats[0].body.messages[0].content, "File: a.txt\n```\nhéllo\n```\n\nRead");
});

test("the keyboard does everything, and a dialog lists it", async () => {
    await page.keyboard.press("Escape");
    await page.locator("#title").click();
    await page.keyboard.press("?");
    assert.ok((await page.locator("dialog dt").allInnerTexts()).length >= 15);
    await page.keyboard.press("Escape");
    await ask(page, "one");
    await page.keyboard.press("Alt+R");
    await idle(page);
    assert.equal(mock.chats.length, 2);
    await page.keyboard.press("Alt+,");
    await until(() => document.querySelector(".branch span").textContent === "1/2");
    await page.focus("#ask");
    await page.keyboard.press("Alt+.");
    await until(() => document.querySelector(".branch span").textContent === "2/2");
    await page.keyboard.press("Alt+B");
    assert.equal(await page.locator("#sidebar").isVisible(), false);
    await page.keyboard.press("Alt+B");
    assert.equal(await page.locator("#sidebar").isVisible(), true);
    // Each button and field is reached by Tab and shows where the focus is.
    const seen = new Set();
    for (let i = 0; i < 60; i += 1) {
        await page.keyboard.press("Tab");
        seen.add(await page.evaluate(() => document.activeElement.id || document.activeElement.getAttribute("aria-label") || document.activeElement.textContent));
    }
    for (const id of ["new-chat", "search", "export", "theme", "help", "menu", "model", "settings", "ask", "attach", "send", "Regenerate", "Copy", "Edit"]) {
        assert.ok(seen.has(id), `${id} is not reached: ${[...seen].join(", ")}`);
    }
});

test("thoughts within the text are folded whatever the pieces, and other tags stay text", async () => {
    for (const size of [1, 3, 7, 100]) {
        mock.plan({ text: "<think>\nadd <b>them</think>\n\nThe answer is 42.", chunk: new RegExp(`[^]{1,${size}}`, "g"), took: { queue_ms: 5, prefill_ms: 1500, decode_ms: 500 } });
        await ask(page, `pieces of ${size}`);
        const m = await page.evaluate(() => globalThis.weft.chats.path.at(-1));
        assert.deepEqual([m.thinking.trim(), m.content], ["add <b>them", "The answer is 42."]);
        assert.equal((await answers(page)).at(-1), "The answer is 42.");
    }
    assert.equal(await page.locator(".stats").last().getAttribute("title").then((t) => t.split(", first")[0]), "waited 5 ms, read the prompt 1.5 s, wrote 500 ms");
    for (const text of ["<thin", "<thing>", "a <think> b", "</think>"]) {
        mock.plan({ text, chunk: /./g });
        await ask(page, "odd");
        assert.equal(await page.evaluate(() => globalThis.weft.chats.path.at(-1).content), text);
    }
    mock.plan({ text: "<think>never ends", chunk: /./g, finish: "length" });
    await ask(page, "long");
    assert.equal(await page.evaluate(() => globalThis.weft.chats.path.at(-1).thinking), "never ends");
});

test("how far the prompt is read is shown", async () => {
    mock.plan({ text: "done", progress: [250, 500] });
    await ask(page, "long", { wait: false });
    await until(() => document.querySelector(".wait")?.textContent === "Reading the prompt: 500 of 1,000 tokens …");
    await idle(page);
    assert.equal(mock.chats[0].body.return_progress, true);
    assert.equal(await page.locator(".wait").isVisible(), false);
});

test("an answer goes on while another chat is open, and ends with its chat", async () => {
    mock.plan({ text: "slow ".repeat(1800), rate: 60 }, { text: "quick" });
    await ask(page, "first", { wait: false });
    await page.waitForFunction(() => document.querySelector(".msg.assistant .md")?.textContent.includes("slow"));
    await page.keyboard.press("Alt+N");
    await ask(page, "second");
    assert.deepEqual([await questions(page), await answers(page)], [["second"], ["quick"]]);
    assert.equal(await page.locator("#chats .live").count(), 1);
    await page.click("#chats li:nth-child(2) a");
    await until(() => document.querySelector(".msg.user .plain").textContent === "first");
    const before = (await answers(page))[0].length;
    await page.waitForFunction((n) => document.querySelector(".msg.assistant .md").textContent.length > n + 20, before);
    await page.focus("#chats li.here a");
    await page.keyboard.press("Delete");
    await until(() => document.querySelectorAll("#chats a").length === 1);
    await page.waitForTimeout(700);
    assert.deepEqual(await titles(), ["second"]);
    assert.equal(mock.chats[0].left, true);
    await page.reload();
    await ready(page);
    assert.deepEqual(await titles(), ["second"]);
});

test("two models answer the same question, side by side", async () => {
    mock.models = [mock.models[0], { ...mock.models[0], id: "weft-mini+chemistry" }, { id: "minilm", object: "model", meta: { answers: false } }];
    await page.reload();
    await ready(page);
    assert.deepEqual(await page.locator("#model option").allInnerTexts(), ["weft-mini", "weft-mini+chemistry"]);
    mock.plan({ text: "I do not know." }, { text: "It is **46 g/mol**." });
    await ask(page, "Molar mass of C2H6O?");
    await page.keyboard.press("Alt+V");
    assert.equal(await page.locator("dialog .version").count(), 1);
    await page.getByText("Ask weft-mini+chemistry").click();
    await idle(page);
    assert.equal(mock.chats[1].body.model, "weft-mini+chemistry");
    assert.deepEqual(await answers(page), ["It is 46 g/mol."]);
    await page.click("[aria-label='Versions side by side']");
    assert.deepEqual(await page.locator("dialog .version h3").allInnerTexts(), ["weft-mini", "weft-mini+chemistry"]);
    assert.deepEqual(await page.locator("dialog .version .md").allInnerTexts(), ["I do not know.", "It is 46 g/mol."]);
    assert.deepEqual(await violations(page), []);
    const [a, b] = await page.locator("dialog .version").evaluateAll((all) => all.map((n) => n.getBoundingClientRect().left));
    assert.ok(b > a + 200);
    await page.getByText("Show this one").click();
    await until(() => document.querySelector(".branch span").textContent === "1/2");
    assert.deepEqual(await answers(page), ["I do not know."]);
});

test("all chats are deleted by two presses, and not by one", async () => {
    await ask(page, "one");
    await page.keyboard.press("Alt+N");
    await ask(page, "two");
    const wipe = page.locator("dialog button", { hasText: /elete/ }).last();
    await page.click("#export");
    await wipe.click();
    assert.equal(await wipe.innerText(), "Really delete 2 chats");
    await page.keyboard.press("Escape");
    assert.equal((await titles()).length, 2);
    await page.click("#export");
    await wipe.click();
    await wipe.click();
    await until(() => !document.querySelector("#chats a") && !document.querySelector(".msg"));
    await page.reload();
    await ready(page);
    assert.deepEqual(await titles(), []);
    const left = await page.evaluate(() => new Promise((resolve) => {
        indexedDB.open("weft").onsuccess = (e) => {
            const count = e.target.result.transaction("messages").objectStore("messages").count();
            count.onsuccess = () => resolve(count.result);
        };
    }));
    assert.equal(left, 0);
});
