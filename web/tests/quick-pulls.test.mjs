// Models that the page pulls, from a hub on loopback, by the real server: progress, stopping, going on, removing; and one
// that is made smaller there.
import test, { after, before } from "node:test";
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launch, violations, visit } from "./browser.mjs";
import { Mock, web } from "./mock.mjs";
import { missing, Weft } from "./weft.mjs";

const mini = join(web, "../models/assets/weft-mini.gguf");
const bytes = readFileSync(mini);

// A hub with one model. While it is slow it sends a part of the file, and then a little now and then.
class Hub {
    constructor() {
        this.slow = true;
        this.ranges = [];
        this.server = createServer((req, res) => this.handle(req, res));
    }

    async start() {
        await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
        this.url = `http://127.0.0.1:${this.server.address().port}`;
        return this;
    }

    async handle(req, res) {
        if (req.url.startsWith("/api/models/org/mini/")) {
            res.end(JSON.stringify({ sha: "1", siblings: [{ rfilename: "mini-Q5_K.gguf", lfs: { size: bytes.length } }] }));
        } else if (req.url === "/org/mini/resolve/1/mini-Q5_K.gguf") {
            const from = Number(/bytes=(\d+)-/.exec(req.headers.range ?? "")?.[1] ?? 0);
            this.ranges.push(from);
            res.writeHead(from ? 206 : 200, { etag: "\"e\"", "content-length": bytes.length - from, ...(from && { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` }) });
            let at = from;
            const end = Math.min(bytes.length, from + 2000000);
            res.write(bytes.subarray(at, end));
            at = end;
            while (this.slow && !res.destroyed && at < bytes.length) {
                res.write(bytes.subarray(at, at + 500));
                at += 500;
                await new Promise((resolve) => { setTimeout(resolve, 40); });
            }
            res.end(bytes.subarray(at));
        } else {
            res.writeHead(404).end();
        }
    }
}

let browser, hub, weft, folder;
before(async () => {
    if (missing) return;
    browser = await launch();
    hub = await new Hub().start();
    folder = mkdtempSync(join(tmpdir(), "weft-pull-"));
    weft = await new Weft().start(0, ["-m", mini, "--models", folder, "--allow-pull", "--allow-quantize", "--endpoint", hub.url]);
});
after(async () => {
    await browser?.close();
    await weft?.stop();
    hub?.server.closeAllConnections();
    hub?.server.close();
    if (folder) rmSync(folder, { recursive: true });
});

test("a model is pulled, interrupted, gone on with and removed", { skip: missing }, async () => {
    const { page, context, faults } = await visit(browser, weft.url, { hash: "#/models" });
    const section = page.locator("section[aria-label='Pull a model']");
    await section.waitFor();
    await page.fill("#pull-name", "org/mini:Q5_K");
    await page.press("#pull-name", "Enter");
    const one = section.locator("[data-pull='org/mini:Q5_K']");
    await one.locator("progress").waitFor();
    await page.waitForFunction(() => /(?:1\.9|2\.\d) MiB of 5\.\d MiB/.test(document.querySelector("[data-pull]")?.textContent ?? ""), null, { timeout: 60000 });
    assert.deepEqual(await violations(page), []);
    // A page that is loaded again sees the pull that goes on.
    await page.reload();
    await one.locator("progress").waitFor();
    // A press that lasts longer than the list is left as it is.
    await one.getByRole("button", { name: /^Stop/ }).click({ delay: 1500 });
    await one.getByRole("button", { name: /^Go on/ }).waitFor();
    assert.match(await one.innerText(), /stopped, \d\.\d MiB of/);
    assert.throws(() => statSync(join(folder, "mini-Q5_K.gguf")));
    hub.slow = false;
    await one.getByRole("button", { name: /^Go on/ }).click();
    await page.waitForFunction(() => /is there/.test(document.querySelector("[data-pull]")?.textContent ?? ""), null, { timeout: 60000 });
    assert.ok(hub.ranges.length === 2 && hub.ranges[1] >= 2000000, String(hub.ranges));
    assert.ok(readFileSync(join(folder, "mini-Q5_K.gguf")).equals(bytes));
    // It is a model like any other now.
    await page.waitForFunction(() => [...document.querySelectorAll("#page section.card h3")].some((h) => h.textContent === "mini-Q5_K"), null, { timeout: 60000 });
    await page.waitForFunction(() => document.querySelector("#model")?.textContent.includes("mini-Q5_K") || document.querySelector("#model")?.value === "mini-Q5_K", null, { timeout: 60000 });
    await section.getByRole("button", { name: "Remove mini-Q5_K" }).click();
    await page.locator("dialog").getByRole("button", { name: "Remove" }).click();
    await page.waitForFunction(() => ![...document.querySelectorAll("#page section.card h3")].some((h) => h.textContent === "mini-Q5_K"), null, { timeout: 60000 });
    assert.throws(() => statSync(join(folder, "mini-Q5_K.gguf")));
    // What the hub does not have is said.
    await page.fill("#pull-name", "org/none");
    await page.press("#pull-name", "Enter");
    await section.locator("[data-pull='org/none'] .why").waitFor();
    assert.match(await section.locator("[data-pull='org/none'] .why").innerText(), /no such model/);
    // The plan of memory may have asked for the model in the moment in which it went.
    assert.deepEqual(faults.filter((f) => !f.includes("/v1/memory")), []);
    await context.close();
});

test("a model is planned, made smaller, and in the list once it is whole", { skip: missing }, async () => {
    copyFileSync(mini, join(folder, "mini.gguf"));
    const { page, context, faults } = await visit(browser, weft.url, { hash: "#/models" });
    const plan = page.locator("section[aria-label='Memory plan']");
    await plan.locator("[data-key=plan-model]").selectOption("mini");
    await plan.getByText(/^(?:It fits on|.* does not say)/).waitFor();
    const total = async () => /In all\s+([\d.]+) MiB/.exec(await plan.innerText())?.[1];
    const first = Number(await total());
    await plan.locator("[data-key=slots]").fill("64");
    await page.keyboard.press("Tab");
    await page.waitForFunction(() => /for 64 answers/.test(document.querySelector("section[aria-label='Memory plan']").innerText));
    assert.ok(Number(await total()) > first);
    const make = page.locator("section[aria-label='Make a model smaller']");
    await make.locator("[data-key=small-model]").selectOption("mini");
    await make.locator("tbody tr").first().waitFor();
    await make.getByRole("radio", { name: "Q2_K", exact: true }).check();
    await make.locator("[data-key=small-name]").fill("tiny");
    await make.getByRole("button", { name: "Make it" }).click();
    assert.match(await make.locator("[role=alert]").innerText(), /mini is quantised already/);
    await make.locator("[data-key=requantize]").check();
    await make.getByRole("button", { name: "Make it" }).click();
    await page.locator("section.card h3", { hasText: /^tiny$/ }).waitFor({ timeout: 60000 });
    await page.getByText(/It is there, as tiny: .* in place of/).waitFor();
    const told = /([\d.]+) MiB in place/.exec(await page.locator("[data-task]").first().innerText())[1];
    assert.equal((statSync(join(folder, "tiny.gguf")).size / (1 << 20)).toFixed(1), told);
    assert.deepEqual(readdirSync(folder).filter((n) => n.includes(".part")), []);
    // A name that is there is not taken twice. The lists of models and of work each draw the page anew when they see the new
    // one, and what was said in between goes with it, so this asks again where nothing is said.
    const alert = make.locator("[role=alert]");
    for (let tries = 0; tries < 10; tries += 1) {
        await make.locator("[data-key=small-name]").fill("tiny");
        await make.getByRole("button", { name: "Make it" }).click();
        if (await alert.waitFor({ timeout: 3000 }).then(() => true, () => false)) break;
    }
    assert.match(await alert.innerText(), /there is a "tiny" already/);
    assert.deepEqual(await violations(page), []);
    assert.deepEqual(faults.filter((f) => !/Failed to load resource/.test(f)), []);
    await context.close();
});

test("a server that pulls nothing has no such section", async () => {
    const own = browser ?? await launch();
    const mock = await new Mock().start();
    const { page, context, faults } = await visit(own, mock.url, { hash: "#/models" });
    await page.waitForSelector("#page dl");
    assert.equal(await page.locator("#pull-name").count(), 0);
    assert.ok(!mock.requests.some((r) => r.path.startsWith("/v1/pulls")));
    assert.deepEqual(faults, []);
    await context.close();
    await mock.stop();
    if (!browser) await own.close();
});
