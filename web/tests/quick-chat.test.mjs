// The chat, from the first question to the way back, in Chromium.
import test from "node:test";
import assert from "node:assert/strict";
import { answers, ask, idle, pageEach, questions, ready, violations } from "./browser.mjs";

let mock, page;
pageEach((now) => { ({ mock, page } = now); });

test("a question is sent, its answer streams, thinking is folded", async () => {
    mock.plan({ thinking: "17 + 25: ones 7+5=12, write 2 carry 1.", text: "The answer is **42**.", rate: 60 });
    await ask(page, "What is 17 + 25?");
    assert.deepEqual(await answers(page), ["The answer is 42."]);
    assert.equal(await page.evaluate(() => document.activeElement.id), "ask");
    assert.equal(await page.locator(".thinking").evaluate((d) => d.open), false);
    await page.locator(".thinking summary").click();
    await page.waitForFunction(() => document.querySelector(".thinking .md").textContent);
    assert.match(await page.locator(".thinking").innerText(), /Thought for [\d.]+ s\s+17 \+ 25/);
    assert.match(await page.locator(".msg.assistant .stats").innerText(), /t\/s · \d+ tokens/);
    assert.match(await page.locator("#gauge").getAttribute("aria-valuetext"), /of 2,048 tokens/);
    assert.equal(await page.title(), "What is 17 + 25? · Weft");
    await ask(page, "And now?");
    assert.deepEqual(mock.chats[1].body.messages, [
        { role: "user", content: "What is 17 + 25?" },
        { role: "assistant", content: "The answer is **42**." },
        { role: "user", content: "And now?" },
    ]);
});

test("an answer is stopped and continued", async () => {
    mock.plan({ text: "word ".repeat(500), rate: 60 });
    await ask(page, "Talk", { wait: false });
    await page.waitForFunction(() => document.querySelector(".msg.assistant .md")?.textContent.length > 20);
    await page.keyboard.press("Escape");
    await idle(page);
    assert.match(await page.locator(".stats").innerText(), /stopped/);
    const [kept] = await answers(page);
    await page.waitForFunction(() => true);
    for (let i = 0; mock.chats[0].open && i < 50; i += 1) await new Promise((r) => setTimeout(r, 20));
    assert.equal(mock.chats[0].left, true, "the server saw the client leave");
    mock.plan({ text: "and the end." });
    await page.locator("[aria-label=Continue]").click();
    await idle(page);
    const { body } = mock.chats[1];
    assert.equal(body.continue_final_message, true);
    assert.equal(body.messages.at(-1).role, "assistant");
    const [whole] = await answers(page);
    assert.ok(whole.startsWith(kept) && whole.endsWith("and the end."), whole);
});

test("regenerate, edit and branches make a tree that survives a reload", async () => {
    mock.plan({ text: "one" }, { text: "two" }, { text: "three" });
    await ask(page, "first");
    await page.locator("[aria-label=Regenerate]").click();
    await idle(page);
    assert.deepEqual(await answers(page), ["two"]);
    assert.equal(await page.locator(".branch span").innerText(), "2/2");
    await page.locator("[aria-label='Previous version']").click();
    assert.deepEqual(await answers(page), ["one"]);
    // Up in the empty field edits the question; Enter sends it as another version.
    await page.focus("#ask");
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("Control+A");
    await page.keyboard.type("changed");
    await page.keyboard.press("Enter");
    await idle(page);
    assert.deepEqual([await questions(page), await answers(page)], [["changed"], ["three"]]);
    assert.equal(mock.chats[2].body.messages.length, 1);
    // An answer that is edited is kept as it was written, and nobody is asked.
    await page.keyboard.press("Alt+E");
    await page.keyboard.press("Control+A");
    await page.keyboard.type("mine");
    await page.keyboard.press("Control+Enter");
    assert.deepEqual(await answers(page), ["mine"]);
    await page.keyboard.press("Alt+,");
    assert.deepEqual(await answers(page), ["three"]);
    assert.equal(mock.chats.length, 3);
    await page.locator(".msg.user [aria-label='Previous version']").click();
    assert.deepEqual([await questions(page), await answers(page)], [["first"], ["one"]]);
    await page.reload();
    await page.waitForSelector(".msg.assistant");
    assert.deepEqual([await questions(page), await answers(page)], [["first"], ["one"]]);
    assert.deepEqual(await page.locator(".branch span").allInnerTexts(), ["1/2", "1/2"]);
});

test("text of scripts from right to left begins on the right", async () => {
    mock.plan({ text: "مرحبا، هذا نص English وأرقام 12.\n\n- أولا\n\n> اقتباس\n\n| أ | ب |\n|---|---|\n| 1 | 2 |\n\n# עברית\n\nAnd a line of English.\n\n```\nlet x = 1; // שלום\n```" });
    await ask(page, "ما هو 2 + 2؟");
    const seen = await page.evaluate(() => {
        const side = (selector) => getComputedStyle(document.querySelector(selector)).direction;
        const box = (selector) => document.querySelector(selector).getBoundingClientRect();
        const range = document.createRange();
        range.selectNodeContents(document.querySelector(".msg.user .plain"));
        return {
            sides: ["p", "ul", "blockquote", "table", "h3", "pre"].map((tag) => side(`.msg.assistant .md ${tag}`)),
            last: [...document.querySelectorAll(".msg.assistant .md p")].map((p) => getComputedStyle(p).direction).at(-1),
            marker: box(".md li").right < box(".md ul").right - 10,
            cells: [...document.querySelectorAll(".md th")].map((th) => Math.round(th.getBoundingClientRect().left)),
            question: box(".msg.user .plain").right - range.getBoundingClientRect().right,
        };
    });
    assert.deepEqual(seen.sides, ["rtl", "rtl", "rtl", "rtl", "rtl", "ltr"]);
    assert.equal(seen.last, "ltr");
    assert.ok(seen.marker && seen.cells[0] > seen.cells[1], JSON.stringify(seen));
    assert.ok(seen.question < 20, String(seen.question));
    await page.fill("#ask", "سؤال");
    assert.equal(await page.locator("#ask").evaluate((n) => getComputedStyle(n).direction), "rtl");
});

test("formulas are set, and what is none stays as it was written", async () => {
    const text = [
        "$\\frac{a}{b} + \\sqrt[3]{x}$", "\\(\\sum_{i=1}^{n} i^2\\)", "$$\\begin{aligned} a &= b \\\\ c &= d \\end{aligned}$$",
        "$\\sideset{_a^b}{_c^d}\\sum \\pmb{v}$", "$\\begin{pmatrix}1&0\\\\0&1\\end{pmatrix}$", "$\\frac{1$", "It costs $5 and $6.",
        "$\\rule{9999em}{9999em}$", "$\\def\\x{\\x\\x}\\x$", "$\\style{position:fixed}{x}\\class{problem}{y}\\id{ask}{z}$",
    ].join("\n\n");
    mock.plan({ text });
    await ask(page, "Formulas");
    await page.waitForFunction(() => document.querySelectorAll(".msg.assistant .math.set").length === 6);
    const seen = await page.evaluate(() => ({
        math: document.querySelectorAll(".msg.assistant math").length,
        kinds: ["mfrac", "mroot", "msubsup", "mtable", "mmultiscripts"].map((t) => document.querySelectorAll(`.msg.assistant math ${t}`).length > 0),
        bold: [...document.querySelectorAll(".msg.assistant math *")].some((n) => n.style?.fontWeight === "bold"),
        odd: document.querySelectorAll(".msg.assistant math [id], .msg.assistant math .problem, .msg.assistant math [style*=fixed]").length,
        wide: Math.max(...[...document.querySelectorAll(".msg.assistant math *")].map((n) => n.getBoundingClientRect().height)),
        text: document.querySelector(".msg.assistant .md").textContent,
    }));
    assert.deepEqual(seen.kinds, [true, true, true, true, true]);
    assert.equal(seen.math, 6);
    assert.ok(seen.bold);
    assert.equal(seen.odd, 0);
    assert.ok(seen.wide < 600, String(seen.wide));
    assert.match(seen.text, /\\frac\{1/);
    assert.match(seen.text, /It costs \$5 and \$6\./);
    assert.match(seen.text, /\\def\\x/);
});

test("hostile Markdown runs nothing and asks for nothing", async () => {
    const text = [
        "<script>globalThis.hit = 1</script>", "<img src=x onerror=\"globalThis.hit = 2\">",
        "[a](javascript:globalThis.hit=3) [b](data:text/html,<script>globalThis.hit=4</script>) [ok](https://example.com/x)",
        "![p](https://evil.example/leak.png)", "<iframe src=\"https://evil.example\"></iframe>", "<svg onload=globalThis.hit=5>",
        "<a href=\"https://evil.example\" onclick=\"globalThis.hit=6\">c</a>", "<style>body{display:none}</style>",
        "<form action=\"https://evil.example\"><button>go</button></form>", "<p class=\"problem\" id=\"ask\">fake</p>",
        "<math><mtext><table><mglyph><style><img src=x onerror=globalThis.hit=7>", "$\\href{javascript:globalThis.hit=8}{x}$",
        "```html\n<script>globalThis.hit = 9</script>\n```", "<b>bold</b> and H<sub>2</sub>O",
    ].join("\n\n");
    mock.plan({ text, chunk: /[\s\S]{1,9}/g });
    await ask(page, "Attack");
    await page.waitForTimeout(200);
    assert.equal(await page.evaluate(() => globalThis.hit), undefined);
    const inside = await page.evaluate(() => {
        const md = document.querySelector(".msg.assistant .md");
        return {
            tags: [...new Set([...md.querySelectorAll("*")].map((n) => n.tagName.toLowerCase()))],
            // A formula has styles of the typesetter, which a test of its own looks at.
            attrs: [...new Set([...md.querySelectorAll(":not(math, math *)")].flatMap((n) => n.getAttributeNames()))],
            links: [...md.querySelectorAll("a")].map((a) => [a.getAttribute("href"), a.target, a.rel]),
            text: md.textContent,
        };
    });
    for (const t of ["script", "img", "iframe", "style", "form", "input"]) assert.ok(!inside.tags.includes(t), t);
    assert.deepEqual(inside.attrs.filter((a) => /^on|^style$|^id$|^src$|^href$/.test(a)), ["href"]);
    const rel = "noopener noreferrer nofollow";
    assert.deepEqual(inside.links.filter(([href]) => href), [
        ["https://example.com/x", "_blank", rel], ["https://evil.example/leak.png", "_blank", rel],
    ]);
    assert.equal(await page.locator(".msg.assistant math [href], .msg.assistant math a").count(), 0);
    // What was not taken as a tag is shown, not dropped.
    assert.match(inside.text, /<script>globalThis\.hit = 1<\/script>/);
    assert.match(inside.text, /<img src=x onerror=/);
    assert.ok(inside.tags.includes("b") && inside.tags.includes("sub"));
});

test("axe finds nothing in an open chat with its settings", async () => {
    mock.plan({ thinking: "hm", text: "# Title\n\n- a\n- b\n\n```js\nlet x = 1;\n```\n\n| a | b |\n|--|--|\n| 1 | 2 |" });
    await ask(page, "Show");
    await page.click("#settings");
    assert.deepEqual(await violations(page), []);
});

test("each adapter of a model has a slider, whose strength is kept with the chat and sent", async () => {
    const adapters = [{ name: "medical", scale: 1 }, { name: "brief", scale: 0.5 }];
    mock.models = ["mini", "mini+medical"].map((id) => ({ ...mock.models[0], id, meta: { ...mock.models[0].meta, adapters } }));
    await page.reload();
    await ready(page);
    await page.click("#settings");
    const slider = (name) => page.getByRole("slider", { name: `Strength of ${name}` });
    const field = (name) => page.locator(".strength").filter({ hasText: name }).locator("input").first();
    assert.deepEqual([await slider("medical").inputValue(), await slider("brief").inputValue()], ["0", "0"]);
    await slider("medical").fill("0.75");
    assert.equal(await field("medical").inputValue(), "0.75");
    await field("brief").fill("-1");
    assert.equal(await slider("brief").inputValue(), "0");
    assert.deepEqual(await violations(page), []);
    await ask(page, "Hi");
    assert.deepEqual(mock.chats[0].body.lora, [{ name: "medical", scale: 0.75 }, { name: "brief", scale: -1 }]);
    assert.match(await page.locator(".stats").innerText(), /medical 0\.75, brief -1/);
    // Another model has strengths of its own: those of its name, until one is set.
    await page.selectOption("#model", "mini+medical");
    await page.waitForFunction(() => document.querySelector(".strength input[type=range]").value === "1");
    await ask(page, "And now?");
    assert.equal(mock.chats[1].body.lora, undefined);
    await page.reload();
    await ready(page);
    await page.selectOption("#model", "mini");
    await page.click("#settings");
    assert.equal(await slider("medical").inputValue(), "0.75");
    // An empty field takes what the server has, and nothing is sent.
    await field("medical").fill("");
    await field("brief").fill("11");
    assert.match(await page.locator("#panel .wrong:not(:empty)").innerText(), /between -10 and 10/);
    await ask(page, "Once more");
    assert.deepEqual(mock.chats[2].body.lora, [{ name: "brief", scale: -1 }]);
});
