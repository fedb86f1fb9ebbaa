// The page Fine-tune without a model: where it is off, what is wrong with data, how a job is shown and steered.
import test, { after, before, beforeEach } from "node:test";
import assert from "node:assert/strict";
import { launch, violations, visit } from "./browser.mjs";
import { Mock } from "./mock.mjs";
import { tuning } from "./tuning.mjs";

let browser, mock;
before(async () => { browser = await launch(); });
beforeEach(async () => { await mock?.stop(); mock = await new Mock().start(); });
after(async () => { await browser?.close(); await mock?.stop(); });

const press = (page, name) => page.getByRole("button", { name, exact: true }).click();

test("where fine-tuning is off, the page says how to switch it on", async () => {
    const { page, context, faults } = await visit(browser, mock.url, { hash: "#/tune" });
    await page.getByText("weft serve --jobs DIR").waitFor();
    assert.equal(await page.title(), "Fine-tune · Weft");
    assert.deepEqual(await violations(page), []);
    assert.deepEqual(faults, []);
    await context.close();
});

test("problems are shown by line, and lead to it", async () => {
    tuning(mock);
    const { page, context, faults } = await visit(browser, mock.url, { hash: "#/tune" });
    await press(page, "Check");
    await page.getByText("There are no examples yet.").waitFor();
    assert.ok(await page.getByRole("button", { name: "Start", exact: true }).isDisabled());
    await page.fill("[data-key=data]", "{\"prompt\": 1}\nbad\n{}\nbad as well");
    await press(page, "Check");
    await page.getByText("2 things are wrong; nothing was begun.").waitFor();
    await press(page, "Line 4");
    const chosen = () => page.$eval("[data-key=data]", (n) => n.value.slice(n.selectionStart, n.selectionEnd));
    assert.equal(await chosen(), "bad as well");
    assert.ok(await page.getByRole("button", { name: "Start", exact: true }).isDisabled());
    assert.deepEqual(await violations(page), []);
    assert.deepEqual(faults, []);
    await context.close();
});

test("a job is planned, begun, followed, paused, and its adapter is tried", async () => {
    const jobs = tuning(mock);
    const { page, context, faults } = await visit(browser, mock.url, { hash: "#/tune" });
    await page.setInputFiles("input[type=file][accept*=jsonl]", { name: "../ü:cloth.jsonl", mimeType: "text/plain", buffer: Buffer.from("{}") });
    await page.waitForFunction(() => document.querySelector("[data-key=data]").value === "{}");
    await page.fill("[data-key=name]", "cloth");
    await page.locator("summary", { hasText: "Settings" }).click();
    await page.fill("[data-key=rank]", "8");
    await page.fill("[data-key=n_steps]", "30");
    await page.fill("[data-key=memory]", "0.5");
    await press(page, "Check");
    await page.getByText("about 2 min").waitFor();
    await page.getByText("Layers that are not computed twice").waitFor();
    assert.equal(mock.requests.find((r) => r.path === "/v1/files").body.filename, "_ü_cloth.jsonl");
    const learnt = await page.$$eval(".batch mark", (all) => all.map((n) => n.textContent));
    assert.deepEqual(learnt, ["The shuttle.<|im_end|>", "The shuttle.<|im_end|>"]);
    // The keyboard goes on where the next thing to do is.
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Start");
    await page.keyboard.press("Enter");
    await page.getByText("It makes the model ready.").waitFor();
    const asked = mock.requests.find((r) => r.path === "/v1/fine_tuning/jobs" && r.method === "POST").body;
    assert.deepEqual([asked.suffix, asked.training_file, asked.method.supervised.hyperparameters], ["cloth", "file-1",
        { n_steps: 30, learning_rate: 0.0002, batch_size: 4, rank: 8, context: 512, validation_share: 0, memory: 500_000_000 }]);
    for (let s = 1; s <= 12; s += 1) mock.step(s, s % 6 === 0 ? 2 - s / 10 : null);
    await page.getByText("12 of 30").waitFor();
    const label = () => page.locator("svg.curve").getAttribute("aria-label");
    assert.match(await label(), /^Loss [\d.]+ at step 1, [\d.]+ at step 12; validation 0\.800$/);
    assert.deepEqual(await violations(page), []);
    await press(page, "Pause");
    await page.getByText("It is paused.").waitFor();
    await press(page, "Resume");
    await page.getByText("It trains.").waitFor();
    // The curve is there again after a reload.
    await page.reload();
    await page.getByText("12 of 30").waitFor();
    await page.waitForFunction(() => /step 12/.test(document.querySelector("svg.curve")?.getAttribute("aria-label")));
    for (let s = 13; s <= 30; s += 1) mock.step(s, s === 30 ? 0.4 : null);
    await page.getByText("It is done.").waitFor();
    mock.models = [...mock.models, { ...mock.models[0], id: jobs[0].fine_tuned_model }];
    await press(page, "Try it");
    await page.waitForFunction(() => document.querySelector("#model").value === "weft-mini+cloth");
    assert.equal(await page.evaluate(() => document.activeElement.id), "ask");
    assert.deepEqual(faults, []);
    await context.close();
});
