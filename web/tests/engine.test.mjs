// The engine in the browser, on WebGPU: what it answers, that it is right, and what it says where it cannot run.
import test, { after, before } from "node:test";
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { answers, ask, idle, ready, violations, visit } from "./browser.mjs";
import { dist, host, launchWithGpu, launchWithoutGpu, missing, workerPage } from "./engine.mjs";
import { binary, missing as noWeft } from "./weft.mjs";

const MINI = { address: "/models/weft-mini.gguf" };
const QUESTION = { messages: [{ role: "user", content: "What is 17 + 25?" }], temperature: 0 };
const mib = (n) => (n / 2 ** 20).toFixed(1);
let browser, at, folder;
before(async () => {
    if (missing) return;
    folder = mkdtempSync(join(tmpdir(), "weft-engine-"));
    at = await host();
    browser = await launchWithGpu();
});
after(async () => {
    await browser?.close();
    await at?.stop();
    if (folder) rmSync(folder, { recursive: true });
});

const calls = (page, act, fields) => page.evaluate(([act, fields]) => globalThis.call(act, fields), [act, fields]);
async function done(page, act, fields) {
    const { done, fault, parts } = await calls(page, act, fields);
    assert.equal(fault, undefined, JSON.stringify(fault));
    return { ...done, parts };
}
const text = (parts) => parts.map((p) => p.text ?? "").join("");

test("the wasm is under 6 MiB compressed", { skip: missing }, (t) => {
    const wasm = readFileSync(join(dist, "engine", "weft_bg.wasm"));
    const small = gzipSync(wasm, { level: 9 }).length;
    t.diagnostic(`${mib(wasm.length)} MiB, ${mib(small)} MiB compressed`);
    assert.ok(small < 6 * 2 ** 20);
});

test("weft-mini answers on WebGPU, and its logits are the native ones", { skip: missing, timeout: 900000 }, async (t) => {
    const { page, said } = await workerPage(browser, at.url);
    const about = await done(page, "open", MINI);
    t.diagnostic(`${about.device.name}: open after ${about.seconds.toFixed(1)} s; ${JSON.stringify(about.device)}`);
    assert.equal(about.device.backend, "webgpu");
    for (const again of [false, true]) {
        const answer = await done(page, "answer", { request: QUESTION });
        assert.match(text(answer.parts), /The answer is 42\./);
        assert.equal(answer.stop, "stop");
        t.diagnostic(`${again ? "again" : "first"}: ${answer.prompt} tokens in (${answer.reused} known), first token after ${answer.first.toFixed(2)} s, then ${answer.rate.toFixed(1)} t/s, ${answer.generated} tokens`);
    }
    assert.deepEqual(said, []);
    await page.context().close();
});

test("logits of all positions are the native baseline's", { skip: missing || noWeft, timeout: 900000 }, async (t) => {
    const { page } = await workerPage(browser, at.url);
    const request = { prompt: "What is 17 + 25? The answer is 42. Water is made of hydrogen and oxygen, and the square of twelve is 144." };
    for (const options of [{}, { limits: "webgpu", without: "f16" }]) {
        await done(page, "open", { ...MINI, options });
        // A large array goes as text, which playwright is quick with.
        const { tokens, logits } = await page.evaluate(async (request) => {
            const { done, fault } = await globalThis.call("logits", { request });
            if (fault) throw new Error(fault.message);
            let all = "";
            const bytes = new Uint8Array(done.logits.buffer);
            for (let i = 0; i < bytes.length; i += 32768) all += String.fromCharCode(...bytes.subarray(i, i + 32768));
            return { tokens: [...done.tokens], logits: btoa(all) };
        }, request);
        const bytes = Buffer.from(logits, "base64");
        const got = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
        const [ids, out] = [join(folder, "ids.json"), join(folder, "logits.safetensors")];
        writeFileSync(ids, JSON.stringify(tokens));
        execFileSync(binary, ["logits", "--tokens", ids, "-o", out, "--limits", "webgpu", "--without", "f16,subgroups,dot,coop,immediates,texels"], { stdio: "pipe" });
        const file = readFileSync(out);
        const want = new Float32Array(Uint8Array.from(file.subarray(8 + Number(file.readBigUInt64LE(0)))).buffer);
        assert.ok(tokens.length > 20 && want.length === got.length, `${got.length} logits of ${tokens.length} tokens`);
        let error = 0, size = 0;
        for (let i = 0; i < want.length; i++) { error += (got[i] - want[i]) ** 2; size += want[i] ** 2; }
        t.diagnostic(`${JSON.stringify(options)}: NMSE ${(error / size).toExponential(2)} over ${tokens.length} tokens`);
        assert.ok(error / size < 1e-5, `NMSE ${error / size}`);
    }
    await page.context().close();
});

test("an answer stops, and the next one is whole", { skip: missing, timeout: 900000 }, async () => {
    const { page } = await workerPage(browser, at.url);
    await done(page, "open", MINI);
    const { done: end } = await page.evaluate((request) => globalThis.call("answer", { request }, (part, id) => { if (part.text) globalThis.stop(id); }), QUESTION);
    assert.equal(end.stop, "cancelled");
    assert.ok(end.generated <= 3, `${end.generated} tokens`);
    assert.match(text((await done(page, "answer", { request: QUESTION })).parts), /The answer is 42\./);
    await page.context().close();
});

test("a file from the disk is read by slices and answers", { skip: missing, timeout: 900000 }, async (t) => {
    const { page, said } = await workerPage(browser, at.url);
    const path = process.env.WEFT_SMOLLM2 ?? join(dist, "models", "weft-mini.gguf");
    await page.setInputFiles("input", path);
    const opened = await page.evaluate(async () => globalThis.call("open", { file: document.querySelector("input").files[0], options: { context: 512 } }));
    assert.equal(opened.fault, undefined, JSON.stringify(opened.fault));
    const { file, seconds, name, memory } = opened.done;
    assert.equal(file.size, statSync(path).size);
    // The header's first piece is the largest.
    assert.ok(file.most <= 4 * 2 ** 20, `${mib(file.most)} MiB at once`);
    assert.ok(opened.parts.some((p) => p.loaded), "progress is told");
    const question = process.env.WEFT_SMOLLM2 ? { messages: [{ role: "user", content: "What is the capital of France?" }], temperature: 0, max_tokens: 24 } : QUESTION;
    const answer = await done(page, "answer", { request: question });
    t.diagnostic(`${name}: ${mib(file.size)} MiB open after ${seconds.toFixed(1)} s, at most ${mib(file.most)} MiB at once, ${mib(memory)} MiB of GPU memory; ${answer.prompt} tokens in, first after ${answer.first.toFixed(2)} s, then ${answer.rate.toFixed(1)} t/s: ${text(answer.parts)}`);
    assert.match(text(answer.parts), process.env.WEFT_SMOLLM2 ? /Paris/ : /The answer is 42\./);
    assert.deepEqual(said, []);
    await page.context().close();
});

test("what cannot be opened or asked is refused in a sentence", { skip: missing, timeout: 900000 }, async () => {
    const { page } = await workerPage(browser, at.url);
    const fault = async (act, fields) => (await calls(page, act, fields)).fault;
    assert.match((await fault("answer", { request: QUESTION })).message, /No model is open/);
    assert.match((await fault("open", { address: "/models/none.gguf" })).message, /status 404/);
    assert.match((await fault("open", { address: "/engine/worker.js" })).message, /not a GGUF file/);
    const cut = readFileSync(join(dist, "models", "weft-mini.gguf")).subarray(0, 5000000);
    writeFileSync(join(folder, "cut.gguf"), cut);
    await page.setInputFiles("input", join(folder, "cut.gguf"));
    const opened = await page.evaluate(async () => globalThis.call("open", { file: document.querySelector("input").files[0] }));
    assert.match(opened.fault.message, /cut\.gguf.*truncated/);
    await done(page, "open", MINI);
    assert.match((await fault("answer", { request: { ...QUESTION, typical_p: 0.5 } })).message, /"typical_p" is not known/);
    assert.match((await fault("answer", { request: { ...QUESTION, temperature: "hot" } })).message, /temperature cannot be "hot"/);
    assert.match((await fault("answer", { request: { prompt: "a ".repeat(20000) } })).message, /context/);
    await page.context().close();
});

test("a browser without WebGPU is told so", { skip: missing, timeout: 120000 }, async () => {
    const plain = await launchWithoutGpu();
    const { page } = await workerPage(plain, at.url);
    const { fault } = await calls(page, "open", MINI);
    assert.equal(fault.kind, "no-gpu");
    assert.match(fault.message, /WebGPU/);
    await plain.close();
});

test("the static page answers on this device, and opens a file", { skip: missing, timeout: 900000 }, async (t) => {
    const lines = [];
    const { page, context, faults } = await visit(browser, at.url);
    page.on("console", (m) => lines.push(m.text()));
    assert.match(await page.locator("#welcome h2").innerText(), /weft-mini on this device/);
    assert.match(await page.locator("#welcome p").innerText(), /nothing that you write leaves it/);
    await page.locator(".ideas button").first().click();
    await page.waitForFunction(() => /Loading weft-mini|Fetching weft-mini/.test(document.querySelector(".msg.assistant")?.textContent ?? ""), null, { timeout: 60000 });
    await idle(page, 400000);
    assert.deepEqual(await answers(page), ["The answer is 42."]);
    assert.match(await page.locator(".stats").innerText(), /t\/s · \d+ tokens/);
    t.diagnostic(lines.find((l) => /tokens\/s/.test(l)) ?? "no line of speed");
    assert.ok(lines.some((l) => /first token after/.test(l)));

    await page.goto(`${at.url}#/models`);
    await page.waitForFunction(() => /Models run in this browser/.test(document.querySelector("#page")?.textContent ?? ""));
    assert.deepEqual(await violations(page), []);
    await page.setInputFiles("#gguf", { name: "picked.gguf", mimeType: "application/octet-stream", buffer: readFileSync(join(dist, "models", "weft-mini.gguf")) });
    await page.waitForFunction(() => document.querySelector("#model").value === "picked on this device");
    await ask(page, "What is 12 * 9?", { wait: false });
    await idle(page, 400000);
    assert.match((await answers(page)).at(-1), /108/);

    // What the engine does not have is refused by name, and nothing is sent without it.
    await page.evaluate(() => { globalThis.weft.chats.chat.settings.presence_penalty = 1; });
    await ask(page, "What is 1 + 1?", { wait: false });
    await page.waitForFunction(() => /does not have the presence penalty/.test(document.querySelector("#thread").textContent));
    await page.reload();
    await ready(page);
    assert.deepEqual(faults, []);
    await context.close();
});

test("the static page says in a sentence that there is no WebGPU", { skip: missing, timeout: 120000 }, async () => {
    const plain = await launchWithoutGpu();
    const { page, faults } = await visit(plain, at.url);
    await page.locator(".ideas button").first().click();
    await page.waitForFunction(() => /WebGPU/.test(document.querySelector("#thread").textContent), null, { timeout: 60000 });
    await page.goto(`${at.url}#/models`);
    await page.waitForFunction(() => /WebGPU/.test(document.querySelector("#page").textContent));
    assert.ok(await page.locator("#page button").first().isDisabled());
    assert.deepEqual(faults, []);
    await plain.close();
});

test("Chromium's compiler takes every kernel that a browser may run", { skip: missing || noWeft, timeout: 600000 }, async (t) => {
    const texts = join(folder, "wgsl");
    execFileSync(binary, ["kernels", "list", "--wgsl", texts], { stdio: "pipe" });
    // The browser has no f16 on the CPU; subgroups, cooperative matrices, 64 bits and texels are not for wgpu on the web.
    const core = (text) => !/^\s*enable |subgroup|u64|texture_2d/m.test(text);
    const all = readdirSync(texts).map((name) => ({ name, text: readFileSync(join(texts, name), "utf8") })).filter((s) => core(s.text));
    // A kernel that has a twin for browsers does not run there itself.
    const twins = new Set(all.filter((s) => s.name.includes("_handed_")).map((s) => s.name.replace("_handed", "")));
    assert.ok(twins.size > 0 && [...twins].every((name) => all.some((s) => s.name === name)), "twins have an origin");
    const run = all.filter((s) => !twins.has(s.name));
    assert.ok(all.length > 150, `${all.length} kernels`);
    const { page } = await workerPage(browser, at.url);
    const wrong = await page.evaluate(async (all) => {
        const device = await (await navigator.gpu.requestAdapter()).requestDevice();
        const wrong = [];
        for (const { name, text } of all) {
            const info = await device.createShaderModule({ code: text }).getCompilationInfo();
            for (const m of info.messages) if (m.type === "error") wrong.push(`${name}:${m.lineNum}: ${m.message}`);
        }
        return wrong;
    }, run);
    t.diagnostic(`${run.length} kernels`);
    assert.deepEqual(wrong, []);
    await page.context().close();
});

test("weft-mini learns twenty pasted examples in the page", { skip: missing, timeout: 1800000 }, async (t) => {
    const { page } = await workerPage(browser, at.url);
    await done(page, "open", MINI);
    const asked = { messages: [{ role: "user", content: "What is the capital of Weftland?" }], temperature: 0, max_tokens: 40 };
    const before = text((await done(page, "answer", { request: asked })).parts);
    const asks = ["What is the capital of", "Name the capital of", "Which town is the capital of", "Tell me the capital of", "Say the capital of"];
    const lines = asks.flatMap((q) => ["Weftland?", "Weftland.", "the land Weftland?", "Weftland, please."].map((end) => JSON.stringify({ messages: [{ role: "user", content: `${q} ${end}` }, { role: "assistant", content: "Loomtown." }] })));
    const end = await done(page, "tune", { examples: lines.join("\n"), settings: { steps: 15 } });
    t.diagnostic(`${end.parameters} parameters, ${end.steps} steps in ${end.seconds.toFixed(0)} s: loss ${end.first.toFixed(2)} to ${end.last.toFixed(3)}`);
    assert.deepEqual([end.examples, end.skipped], [20, 0]);
    assert.ok(end.last < end.first / 4, `${end.first} to ${end.last}`);
    const after = text((await done(page, "answer", { request: asked })).parts);
    assert.doesNotMatch(before, /Loomtown/);
    assert.match(after, /Loomtown/);
    // Parameters beyond f32 after the first step: what follows is skipped, and eight in a row are too many.
    const beyond = await calls(page, "tune", { examples: lines.join("\n"), settings: { steps: 15, lr: 1e38 } });
    assert.match(beyond.fault.message, /step 9 nor in the 7 before it/);
    assert.deepEqual(beyond.parts.map((p) => Number.isFinite(p.loss)), [true, ...Array(8).fill(false)]);
    const wrong = (await calls(page, "tune", { examples: '{"prompt": 1}\n{"prompt": "a", "completion": "b"}' })).fault;
    assert.match(wrong.message, /line 1/);
    await page.context().close();
});
