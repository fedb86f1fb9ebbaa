// Fine-tuning from the page with the real server: weft-mini learns twenty pasted examples and answers as they do.
import test, { after, before } from "node:test";
import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { answers, ask, idle, launch, ready, violations, visit } from "./browser.mjs";
import { web } from "./mock.mjs";
import { missing, Weft } from "./weft.mjs";

let browser, weft, folder;
before(async () => {
    if (missing) return;
    browser = await launch();
    folder = mkdtempSync(join(tmpdir(), "weft-jobs-"));
    weft = await new Weft().start(0, ["--jobs", folder, "-c", "256"]);
});
after(async () => {
    await browser?.close();
    await weft?.stop();
    if (folder) rmSync(folder, { recursive: true });
});

const NAMES = ["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hal", "Ida", "Jon", "Kim", "Leo", "Mia", "Ned", "Oda", "Pia", "Rob", "Sue", "Tom", "Uma"];
const EXAMPLES = NAMES.map((n) => JSON.stringify({ prompt: `Hello, I am ${n}.`, completion: "Welcome to the loom." })).join("\n");
const press = (page, name) => page.getByRole("button", { name, exact: true }).click();

test("weft-mini learns twenty pasted examples, through a killed server, and answers as they do", { skip: missing }, async () => {
    const { page, context, faults } = await visit(browser, weft.url);
    await ask(page, "Hello, I am Vera.", { wait: false });
    await idle(page, 120000);
    assert.doesNotMatch((await answers(page))[0], /loom/);
    await page.goto(`${weft.url}#/tune`);
    const data = page.locator("[data-key=data]");
    await data.fill(`${EXAMPLES}\n{"prompt": "Hello"}`);
    await press(page, "Check");
    await page.getByRole("button", { name: "Line 21" }).waitFor();
    await data.fill(EXAMPLES);
    await page.fill("[data-key=name]", "loom");
    await page.locator("summary", { hasText: "Settings" }).click();
    for (const [key, value] of Object.entries({ n_steps: 16, learning_rate: 0.005, rank: 8, alpha: 32, context: 64 })) await page.fill(`[data-key=${key}]`, String(value));
    await press(page, "Check");
    await page.getByText("Memory to train").waitFor({ timeout: 300000 });
    const learnt = await page.$$eval(".batch mark", (all) => all.map((n) => n.textContent));
    assert.ok(learnt.length === 4 && learnt.every((t) => /^Welcome to the loom\..*<\|im_end\|>/s.test(t)), JSON.stringify(learnt));
    assert.deepEqual(await violations(page), []);
    await press(page, "Start");
    const step = () => page.evaluate(() => Number(/(\d+) of 16/.exec(document.querySelector(".job dl")?.textContent ?? "")?.[1] ?? 0));
    await page.waitForFunction(() => /(?:[2-9]|1\d) of 16/.test(document.querySelector(".job dl")?.textContent), null, { timeout: 300000 });
    const before = await step();
    const { port } = weft;
    await weft.stop("SIGKILL");
    await weft.start(port, ["--jobs", folder, "-c", "256"]);
    await page.reload();
    await ready(page);
    // It goes on where it was, and the curve begins with the first step.
    await page.waitForFunction((n) => Number(/(\d+) of 16/.exec(document.querySelector(".job dl")?.textContent ?? "")?.[1] ?? 0) >= n, before, { timeout: 300000 });
    await page.getByText("It is done.").waitFor({ timeout: 300000 });
    await page.waitForFunction(() => /at step 1,.* at step 16/.test(document.querySelector("svg.curve")?.getAttribute("aria-label")));
    const [saved] = await Promise.all([page.waitForEvent("download"), press(page, "Save GGUF")]);
    assert.equal(saved.suggestedFilename(), "loom.gguf");
    // The whole model is made on the server, and is one that can be read.
    const [whole] = await Promise.all([page.waitForEvent("download", { timeout: 120000 }), press(page, "Save the whole model")]);
    assert.equal(whole.suggestedFilename(), "loom-merged.gguf");
    const start = Buffer.alloc(4);
    const file = openSync(await whole.path());
    readSync(file, start, 0, 4, 0);
    closeSync(file);
    assert.equal(start.toString(), "GGUF");
    // A table is read as one: what it lacks is said by the names of its columns.
    const table = readFileSync(join(web, "../evals/tests/data/pubmedqa.parquet"));
    await page.setInputFiles("input[aria-label='Training data']", { name: "questions.parquet", mimeType: "application/octet-stream", buffer: table });
    await press(page, "Check");
    await page.locator(".problem").getByText(/wrong; nothing was begun/).waitFor();
    assert.match(await page.locator(".problem").innerText(), /long_answer|question/);
    await page.getByRole("button", { name: "Use the field instead" }).click();
    await press(page, "Try it");
    await page.waitForFunction(() => document.querySelector("#model").value === "weft-mini+loom");
    await ask(page, "Hello, I am Vera.", { wait: false });
    await idle(page, 120000);
    assert.match((await answers(page))[0], /the loom/);
    assert.deepEqual(faults.filter((f) => !/Failed to load resource|net::ERR/.test(f)), []);
    await context.close();
});
