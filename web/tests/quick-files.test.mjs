// The page's files and its pure functions, without a browser.
import test from "node:test";
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { csp, web } from "./mock.mjs";
import { LIMIT, served as all, sizes, sum, walk } from "./size.mjs";
import { ancestors, choose, fault, pathOf, siblings } from "../js/tree.js";
import { adaptersOf, numberOf, requestOf, SAMPLING, schemaOf, strengthKey, toolsOf, wireMessages } from "../js/settings.js";
import { events, fromError, Problem } from "../js/api.js";

const served = all.filter((p) => p !== "sw.js");

test("the service worker keeps every file of the page", () => {
    const source = readFileSync(join(web, "sw.js"), "utf8");
    const list = new Function("self", `${source.slice(source.indexOf("const FILES"), source.indexOf("const scope"))}; return FILES;`)();
    const wanted = served.map((p) => (p === "index.html" ? "./" : p)).sort();
    assert.deepEqual([...list].sort(), wanted);
});

test("the page is under 200 KiB compressed", () => {
    const total = sum(sizes());
    assert.ok(total < LIMIT, `${total} bytes`);
    assert.ok(total > 50 * 1024, `only ${total} bytes were found`);
});

test("vendored libraries are the published files, with licence and version", () => {
    const list = JSON.parse(readFileSync(join(web, "vendor/versions.json"), "utf8"));
    const seen = new Set(["vendor/versions.json"]);
    for (const [name, about] of Object.entries(list)) {
        assert.match(about.version, /^\d+\.\d+\.\d+$/);
        assert.ok(about.licence, name);
        for (const [file, sum] of Object.entries(about.sha256)) {
            const path = join("vendor", name, file);
            seen.add(path);
            assert.equal(createHash("sha256").update(readFileSync(join(web, path))).digest("hex"), sum, path);
        }
        assert.ok(existsSync(join(web, "vendor", name, "LICENSE")), name);
        const pinned = JSON.parse(readFileSync(join(web, "tests/package.json"), "utf8")).devDependencies[about.package];
        assert.equal(pinned, about.version, about.package);
    }
    assert.deepEqual([...walk(join(web, "vendor"))].filter((p) => !seen.has(p)), []);
});

test("no script, style or handler stands in the HTML, and no file names another host", () => {
    const html = readFileSync(join(web, "index.html"), "utf8");
    assert.doesNotMatch(html, /<script(?![^>]* src=)|<style|\sstyle=|\son\w+=/i);
    assert.match(csp, /default-src 'none'.*script-src 'self'.*frame-ancestors 'none'/);
    assert.doesNotMatch(csp, /unsafe|\*|https?:/);
    for (const p of served.filter((f) => /^(?:js\/|index|app|manifest)/.test(f))) {
        const text = readFileSync(join(web, p), "utf8").replaceAll("http://www.w3.org/2000/svg", "");
        assert.doesNotMatch(text, /https?:\/\/(?!\?)[a-z0-9]/i, p);
        assert.doesNotMatch(text, /\.innerHTML|\.outerHTML|insertAdjacentHTML|document\.write|\beval\(/, p);
        assert.ok(text.split("\n").length < 600, `${p} is long`);
    }
});

test("the committed screens are small", () => {
    const screens = readdirSync(join(web, "screens")).filter((f) => f.endsWith(".webp"));
    assert.ok(screens.length >= 8, `${screens.length} screens`);
    for (const f of screens) assert.ok(statSync(join(web, "screens", f)).size < 40 * 1024, f);
});

const m = (id, parent, role = "user", more = {}) => ({ id, parent, role, content: id, created: 0, seq: Number(id.slice(1)), ...more });

test("a chat is a tree: the path follows choices, and the newest where there is none", () => {
    const all = [m("m1", null), m("m2", "m1", "assistant"), m("m3", "m1", "assistant"), m("m4", "m2"), m("m5", null)];
    assert.deepEqual(pathOf(all).map((x) => x.id), ["m5"]);
    assert.deepEqual(pathOf(all, { root: "m1" }).map((x) => x.id), ["m1", "m3"]);
    const choice = choose(all, {}, "m4");
    assert.deepEqual(pathOf(all, choice).map((x) => x.id), ["m1", "m2", "m4"]);
    assert.deepEqual(siblings(all, all[2]), { index: 1, count: 2, ids: ["m2", "m3"] });
    assert.deepEqual(ancestors(all, "m4").map((x) => x.id), ["m1", "m2", "m4"]);
    assert.equal(fault(all), null);
    assert.match(fault([m("m1", "m9")]), /not there/);
    assert.match(fault([m("m1", "m2"), m("m2", "m1")]), /answers itself/);
    assert.match(fault([m("m1", null), m("m1", null)]), /two messages/);
    assert.match(fault([m("m1", null, "root")]), /role/);
    assert.deepEqual(pathOf([m("m1", "m2"), m("m2", "m1")]), []);
});

test("only settings that were made are sent", () => {
    const path = [m("m1", null)];
    assert.deepEqual(Object.keys(requestOf(path, {}, "x", false)), ["model", "messages", "stream", "stream_options", "return_progress"]);
    const body = requestOf(path, {
        system: "Be brief.", temperature: 0, seed: 7, max_tokens: 5, stop: "END\n\\n\\n", thinking: "off", format: "schema",
        schema: "{\"type\":\"object\"}", tools: "[{\"name\":\"f\"}]", tool_choice: "f",
    }, "x", false);
    assert.deepEqual(body.messages[0], { role: "system", content: "Be brief." });
    assert.deepEqual(body.stop, ["END", "\n\n"]);
    assert.equal(body.temperature, 0);
    assert.deepEqual(body.chat_template_kwargs, { enable_thinking: false });
    assert.deepEqual(body.response_format.json_schema.schema, { type: "object" });
    assert.deepEqual(body.tools, [{ type: "function", function: { name: "f" } }]);
    assert.deepEqual(body.tool_choice, { type: "function", function: { name: "f" } });
    assert.equal(requestOf(path, {}, "x", true).continue_final_message, true);
    // Strengths of adapters are those of the model that is asked.
    const settings = { [strengthKey("a", "x")]: 0.5, [strengthKey("a", "y")]: 0, [strengthKey("a+x", "x")]: 2 };
    const lora = (model) => requestOf(path, settings, model, false).lora;
    assert.deepEqual(lora("a"), [{ name: "x", scale: 0.5 }, { name: "y", scale: 0 }]);
    assert.deepEqual([lora("a+x"), lora("a@desk")], [[{ name: "x", scale: 2 }], undefined]);
    const adapters = [{ name: "x", scale: 0.8 }, { name: "y", scale: 1 }];
    assert.deepEqual(adaptersOf({ id: "a+x@desk", meta: { adapters } }), [{ name: "x", start: 0.8 }, { name: "y", start: 0 }]);
    assert.deepEqual([adaptersOf({ id: "a+job", meta: {} }), adaptersOf({ id: "a" })], [[{ name: "job", start: 1 }], []]);
});

test("files, calls and results go over the wire", () => {
    const calls = [{ id: "c1", name: "f", arguments: "" }];
    const path = [
        m("m1", null, "user", { content: "Sum it", files: [{ name: "a.md", text: "x ``` y" }] }),
        m("m2", "m1", "assistant", { content: "", calls, thinking: "hm" }),
        m("m3", "m2", "tool", { callId: "c1", content: "3" }),
        m("m4", "m3", "assistant", { content: "", calls: [] }),
    ];
    const wire = wireMessages(path, "");
    assert.equal(wire[0].content, "File: a.md\n````\nx ``` y\n````\n\nSum it");
    assert.equal(wire[1].tool_calls[0].function.arguments, "{}");
    assert.equal(wire[1].reasoning_content, "hm");
    assert.deepEqual(wire[2], { role: "tool", tool_call_id: "c1", content: "3" });
    assert.equal(wire.length, 3);
    const cut = m("m1", null, "assistant", { content: "4", thinking: "2+2", inline: true });
    assert.deepEqual(wireMessages([cut], ""), [{ role: "assistant", content: "<think>2+2</think>\n\n4" }]);
    assert.deepEqual(wireMessages([cut, m("m2", "m1")], "")[0], { role: "assistant", content: "4" });
});

test("fields are checked with a sentence", () => {
    const rule = (key) => SAMPLING.find((r) => r.key === key);
    assert.deepEqual(numberOf(rule("temperature"), " 0,5 "), { value: 0.5 });
    assert.deepEqual(numberOf(rule("temperature"), ""), { value: null });
    for (const [key, text] of [["temperature", "3"], ["temperature", "x"], ["top_k", "1.5"], ["seed", "-1"], ["max_tokens", "0"]]) {
        assert.match(numberOf(rule(key), text).wrong, /\.$/, key);
    }
    assert.match(schemaOf("[]").wrong, /object/);
    assert.match(schemaOf("{").wrong, /no JSON/);
    assert.match(toolsOf("[{\"name\":\"a b\"}]").wrong, /name/);
    assert.deepEqual(toolsOf(""), { value: null });
});

const stream = (...parts) => new ReadableStream({ start(c) { for (const p of parts) c.enqueue(p); c.close(); } });
const gathered = async (body) => { const all = []; for await (const e of events(body)) all.push(e); return all; };

test("events are read whatever the pieces they come in", async () => {
    const text = ": ping\n\ndata: {\"a\":\"é😀\"}\r\n\r\ndata:x\ndata: y\n\nevent: z\ndata: 1\n\ndata: [DONE]\n\ndata: unfinished";
    const bytes = new TextEncoder().encode(text);
    const wanted = ["{\"a\":\"é😀\"}", "x\ny", "1", "[DONE]"];
    assert.deepEqual(await gathered(stream(bytes)), wanted);
    for (let size = 1; size < 9; size += 1) {
        const parts = [];
        for (let i = 0; i < bytes.length; i += size) parts.push(bytes.slice(i, i + size));
        assert.deepEqual(await gathered(stream(...parts)), wanted, `pieces of ${size}`);
    }
});

test("faults have their kinds", () => {
    const h = (o) => new Headers(o);
    assert.equal(fromError({ code: "context_length_exceeded", message: "long", n_prompt_tokens: 9, n_ctx: 4 }, 400).prompt, 9);
    const ours = fromError({ code: "context_length_exceeded", message: "the prompt has 9 tokens and the context of \"qwen3-4b\" has room for 4, the answer's among them" }, 400);
    assert.deepEqual([ours.prompt, ours.context], [9, 4]);
    assert.equal(fromError({}, 503, h({ "retry-after": "7" })).retryAfter, 7);
    assert.equal(fromError({}, 503, h({ "retry-after-ms": "1500", "retry-after": "9" })).retryAfter, 1.5);
    assert.equal(fromError({}, 429, h({})).kind, "busy");
    assert.equal(fromError({ message: "no" }, 401).kind, "key");
    assert.equal(fromError({ message: "no", param: "top_k" }, 400).param, "top_k");
    assert.equal(fromError({ message: "boom" }).kind, "server");
    assert.ok(fromError(null, 500) instanceof Problem);
});
