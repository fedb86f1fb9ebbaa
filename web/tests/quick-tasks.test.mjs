// What a model takes, a smaller type of it, and checks of the device, on a server that is made up.
import test from "node:test";
import assert from "node:assert/strict";
import { pageEach, ready, violations } from "./browser.mjs";
import { tasks } from "./tasks.mjs";
import { tuning } from "./tuning.mjs";

let mock, page;
pageEach((t) => { ({ mock, page } = t); }, /Failed to load resource/);

async function open(hash, kinds) {
    const all = tasks(mock, kinds);
    await page.goto(`${mock.url}${hash}`);
    await page.reload();
    await ready(page);
    return all;
}
const section = (name) => page.locator(`section[aria-label='${name}']`);
const card = (kind) => page.locator("[data-task]", { hasText: kind });

test("a plan follows what is chosen, and says what does not fit", async () => {
    await open("#/models");
    const plan = section("Memory plan");
    await plan.getByText("part of what is in use").waitFor();
    await plan.locator("[data-key=plan-model]").selectOption("qwen3-0.6b-f16");
    await plan.getByText("It fits on llvmpipe.").waitFor();
    assert.match(await plan.innerText(), /Cache\s+1\.8 GiB, for 4 answers of 4,096 tokens/);
    await plan.locator("[data-key=context]").fill("65536");
    await page.keyboard.press("Tab");
    await plan.getByText(/does not fit.*shorter context.*trained for 32,768 tokens/).waitFor();
    await plan.locator("[data-key=cache]").selectOption("q4_0");
    await plan.getByText("It fits on llvmpipe.").waitFor();
    assert.deepEqual(mock.requests.filter((r) => r.path === "/v1/memory").at(-1).body, { model: "qwen3-0.6b-f16", context: 65536, cache_type: "q4_0" });
    await plan.locator("[data-key=slots]").fill("256");
    await page.keyboard.press("Tab");
    assert.match(await plan.locator("[role=alert]").innerText(), /does not fit the device's buffers/);
    assert.deepEqual(await violations(page), []);
});

test("a smaller type is chosen by its size, made, and told; what is wrong is said", async () => {
    const all = await open("#/models");
    const make = section("Make a model smaller");
    const name = make.locator("[data-key=small-name]");
    await make.locator("table").waitFor();
    assert.equal(await name.inputValue(), "qwen3-0.6b-Q4_K_M");
    // Types that are not smaller are left out, and those that need more are named.
    assert.equal(await make.locator("tbody tr").count(), 7);
    assert.match(await make.innerText(), /IQ1_S needs/);
    assert.equal(await make.locator("[data-key=requantize]").isVisible(), true);
    await make.locator("[data-key=small-model]").selectOption("qwen3-0.6b-f16");
    await page.waitForFunction(() => document.querySelector("[data-key=requantize]").offsetParent === null);
    await make.locator("input[value=Q5_K_M]").check();
    assert.equal(await name.inputValue(), "qwen3-0.6b-Q5_K_M");
    await name.fill("taken");
    await make.getByRole("button", { name: "Make it" }).click();
    assert.match(await make.locator("[role=alert]").innerText(), /there is a "taken" already/);
    await name.fill("small");
    await make.getByRole("button", { name: "Make it" }).click();
    await card("qwen3-0.6b-f16 as Q5_K_M").locator("progress").waitFor();
    assert.deepEqual(mock.requests.filter((r) => r.method === "POST" && r.path === "/v1/tasks").at(-1).body, { kind: "quantize", model: "qwen3-0.6b-f16", type: "Q5_K_M", name: "small" });
    assert.deepEqual(await violations(page), []);
    await card("as Q5_K_M").getByRole("button", { name: "Cancel" }).click();
    await page.getByText("It was cancelled.").waitFor();
    await name.fill("small");
    await make.getByRole("button", { name: "Make it" }).click();
    await page.locator("[data-status=running]").waitFor();
    mock.models = [...mock.models, { id: "small", object: "model", created: 1, owned_by: "weft", meta: {} }];
    all[1].finish();
    // The new model is in the list by itself.
    await page.locator("section.card h3", { hasText: /^small$/ }).waitFor();
    await page.getByText("It is there, as small: 4.7 MiB in place of 15.1 MiB.").waitFor();
});

test("the device is checked and measured on request, and results are told in words", async () => {
    const all = await open("#/device");
    const checks = section("Check and measure");
    await checks.getByRole("button", { name: "Test the kernels" }).click();
    await card("Kernel test").locator("progress").waitFor();
    all[0].finish();
    await page.getByText("All is right: 512 cases of 61 operations").waitFor();
    await checks.getByLabel(/Every type/).check();
    await checks.getByRole("button", { name: "Draw the roofline" }).click();
    await card("Roofline").locator("progress").waitFor();
    assert.deepEqual(mock.requests.filter((r) => r.method === "POST" && r.path === "/v1/tasks").at(-1).body, { kind: "roofline", thorough: true });
    all[1].finish();
    await page.locator("svg.roof").waitFor();
    assert.equal(await page.locator("svg.roof circle").count(), 10);
    await checks.getByRole("button", { name: "Tune" }).click();
    await card("Tuning").locator("progress").waitFor();
    all[2].finish();
    await page.getByText("1 kernel of 2 is faster").waitFor();
    await checks.getByRole("button", { name: "Measure the speed" }).click();
    await card("Speed of weft-mini").locator("progress").waitFor();
    all[3].finish();
    await page.getByText("reading a prompt of 512").waitFor();
    assert.deepEqual(await violations(page), []);
    await checks.getByRole("button", { name: "Test the kernels" }).click();
    await page.locator("[data-task=task-5]").waitFor();
    all[4].finish({ result: { passed: 9, failed: 1, unsupported: 0, ops: 4, failures: [{ op: "matmul", variant: "coop", type: "q4_k", case: "7 x 5", detail: "NMSE 1.0e0, allowed 1e-6" }] } });
    await page.getByText("1 case of 10 failed").waitFor();
    await checks.getByRole("button", { name: "Measure the speed" }).click();
    await page.locator("[data-task=task-6]").waitFor();
    all[5].finish({ status: "failed", error: "weft-mini does not fit", result: null });
    await page.getByText("It failed: weft-mini does not fit.").waitFor();
    // A server that was started anew has forgotten all, which is said of what was on its way.
    await checks.getByRole("button", { name: "Tune" }).click();
    await page.locator("[data-task=task-7]").waitFor();
    all.length = 0;
    await page.getByText("what it was doing is lost").waitFor();
    assert.equal(await page.locator("[data-task]").count(), 0);
});

test("a page keeps its title and its address while an answer comes", async () => {
    await open("#/");
    let free;
    mock.plan({ text: "one two", hold: new Promise((r) => { free = r; }) });
    await page.fill("#ask", "Count");
    await page.press("#ask", "Enter");
    await page.getByText("one two").waitFor();
    await page.click(".pages a[href='#/models']");
    await section("Memory plan").waitFor();
    free();
    await page.waitForFunction(() => !globalThis.weft.chats.busy);
    await page.waitForTimeout(700);
    assert.deepEqual([await page.locator("#title").innerText(), new URL(page.url()).hash], ["Models", "#/models"]);
});

test("a server that writes no models says how one does, and one that does no work has no such sections", async () => {
    await open("#/models", ["kernels"]);
    await section("Make a model smaller").getByText("--allow-quantize").waitFor();
    mock.props = { ...mock.props, tasks: undefined };
    await page.reload();
    await page.waitForSelector("#page dl");
    assert.equal(await section("Memory plan").count() + await section("Make a model smaller").count(), 0);
});

test("a table is sent as it is, and an adapter is saved in the weights of its model", async () => {
    tuning(mock);
    const all = await open("#/tune");
    const file = Buffer.concat([Buffer.from("PAR1"), Buffer.from([0, 255, 254, 10]), Buffer.from("PAR1")]);
    await page.setInputFiles("input[aria-label='Training data']", { name: "cloth.parquet", mimeType: "application/octet-stream", buffer: file });
    await page.getByText("The examples are those of cloth.parquet (12 B).").waitFor();
    assert.equal(await page.locator("[data-key=data]").isVisible(), false);
    await page.getByRole("button", { name: "Check" }).click();
    await page.getByText("Memory to train").waitFor();
    const sent = mock.requests.filter((r) => r.path === "/v1/files").at(-1);
    assert.match(sent.headers["content-type"], /^multipart\/form-data; boundary=/);
    assert.match(sent.body, /name="purpose"\r\n\r\nfine-tune\r\n[\s\S]*name="file"; filename="cloth.parquet"\r\n/);
    await page.getByRole("button", { name: "Use the field instead" }).click();
    assert.equal(await page.locator("[data-key=data]").isVisible(), true);
    await page.getByRole("button", { name: "Put in examples" }).click();
    await page.fill("[data-key=name]", "cloth");
    await page.getByRole("button", { name: "Check" }).click();
    await page.getByText("Memory to train").waitFor();
    await page.getByRole("button", { name: "Start" }).click();
    await page.getByText("It makes the model ready.").waitFor();
    for (let s = 1; s <= 30; s += 1) mock.step(s);
    mock.routes["GET /v1/fine_tuning/jobs/ftjob-1/result/merged.gguf"] = ({ res }) => { res.writeHead(200, { "content-type": "application/octet-stream" }); res.end("GGUF whole"); };
    const saved = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save the whole model" }).click();
    await page.getByText("added to the model's weights: 33 %").waitFor();
    all[0].finish({ model: "weft-mini+cloth" });
    assert.equal((await saved).suggestedFilename(), "cloth-merged.gguf");
    assert.deepEqual(await violations(page), []);
});
