// The page Evaluate without a model: what is asked, how it is shown and ended.
import test, { after, before, beforeEach } from "node:test";
import assert from "node:assert/strict";
import { launch, violations, visit } from "./browser.mjs";
import { Mock } from "./mock.mjs";
import { exams } from "./tuning.mjs";

let browser, mock;
before(async () => { browser = await launch(); });
beforeEach(async () => { await mock?.stop(); mock = await new Mock().start(); });
after(async () => { await browser?.close(); await mock?.stop(); });

const press = (page, name) => page.getByRole("button", { name, exact: true }).click();

test("a model is asked the curriculum's questions, and a table has what it got right", async () => {
    const all = exams(mock);
    const { page, context, faults } = await visit(browser, mock.url, { hash: "#/exam" });
    await page.selectOption("[data-key=model]", "weft-mini+cloth");
    await page.fill("[data-key=limit]", "50");
    await press(page, "Start");
    await page.getByText("12 of 100 questions are answered.").waitFor();
    const asked = mock.requests.find((r) => r.path === "/v1/evaluations" && r.method === "POST").body;
    assert.deepEqual(asked, { model: "weft-mini+cloth", suite: "curriculum", limit: 50, max_tokens: 512 });
    all[0].done();
    await page.getByText("It is done.").waitFor();
    const rows = await page.$$eval(".job tbody tr", (trs) => trs.map((tr) => [...tr.cells].map((c) => c.textContent)));
    assert.deepEqual(rows[0], ["all", "72.0 %", "58.3 % to 82.5 %", "50"]);
    assert.equal(rows.length, 4);
    assert.deepEqual(await violations(page), []);
    assert.deepEqual(faults, []);
    await context.close();
});

test("questions of one's own are sent, a fault is told, and a run is cancelled", async () => {
    exams(mock);
    const { page, context, faults } = await visit(browser, mock.url, { hash: "#/exam" });
    await page.selectOption("[data-key=suite]", "file");
    await page.fill("[data-key=text]", "bad");
    await press(page, "Start");
    await page.getByText("questions.jsonl: line 1: is not JSON").waitFor();
    await page.setInputFiles("input[type=file][accept*=csv]", { name: "a/b:own.csv", mimeType: "text/csv", buffer: Buffer.from("question,answer\n") });
    await page.waitForFunction(() => document.querySelector("[data-key=text]").value.startsWith("question,"));
    await page.selectOption("[data-key=mode]", "letter");
    await press(page, "Start");
    await page.getByText("12 of 100 questions are answered.").waitFor();
    const asked = mock.requests.findLast((r) => r.path === "/v1/evaluations" && r.method === "POST").body;
    assert.deepEqual([asked.filename, asked.mode, asked.content], ["a_b_own.csv", "letter", "question,answer\n"]);
    await press(page, "Cancel");
    await page.getByText("It was cancelled.").waitFor();
    assert.deepEqual(await violations(page), []);
    assert.deepEqual(faults.filter((f) => !/Failed to load resource/.test(f)), []);
    await context.close();
});

test("a report for an issue says server and device", async () => {
    const { page, context, faults } = await visit(browser, mock.url, { hash: "#/device", context: { permissions: ["clipboard-read", "clipboard-write"] } });
    await page.getByRole("button", { name: "Copy a report for an issue" }).click();
    await page.getByText("Copied.").waitFor();
    const text = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(text, /^```\nserver {3}weft 0\.1\.0\nbrowser .*\ndevice {3}llvmpipe .*, cpu, vulkan, llvmpipe.*\nfeatures .*"f16":true.*\nlimits .*\nmodels {3}\n```$/);
    assert.deepEqual(await violations(page), []);
    assert.deepEqual(faults, []);
    await context.close();
});
