// The page out of the binary, answering with weft-mini.
import test, { after, before } from "node:test";
import assert from "node:assert/strict";
import { answers, ask, launch, ready, visit } from "./browser.mjs";
import { csp } from "./mock.mjs";
import { missing, Weft } from "./weft.mjs";

let browser, weft;
before(async () => {
    if (missing) return;
    browser = await launch();
    weft = await new Weft().start();
});
after(async () => { await browser?.close(); await weft?.stop(); });

test("weft serve opens a page that answers with weft-mini", { skip: missing }, async () => {
    const response = await fetch(weft.url);
    assert.equal(response.headers.get("content-security-policy"), csp);
    const { page, context, faults } = await visit(browser, weft.url);
    assert.match(await page.locator("#welcome h2").innerText(), /weft-mini/);
    await page.locator(".ideas button").first().click();
    await page.waitForFunction(() => document.querySelector(".msg.assistant .md:not(.thinking .md)")?.textContent.includes("42"), null, { timeout: 60000 });
    await page.waitForFunction(() => !globalThis.weft.chats.busy);
    assert.deepEqual(await answers(page), ["The answer is 42."]);
    assert.match(await page.locator(".thinking").textContent(), /Thought/);
    assert.match(await page.locator(".stats").innerText(), /\d t\/s · \d+ tokens/);
    await ask(page, "What is 12 * 9?");
    assert.match((await answers(page)).at(-1), /108/);
    await page.reload();
    await ready(page);
    assert.equal((await answers(page)).length, 2);
    assert.deepEqual(faults, []);
    await context.close();
});
