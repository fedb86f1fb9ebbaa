// How the page looks: nothing cut or overlapping, axe without findings, and the screens that are committed.
import test, { after, before } from "node:test";
import assert from "node:assert/strict";
import { join } from "node:path";
import { ask, idle, launch, violations, visit } from "./browser.mjs";
import { Mock, web } from "./mock.mjs";
import { tasks } from "./tasks.mjs";
import { exams, tuning } from "./tuning.mjs";
import { webp } from "./webp.mjs";

let browser, mock, asked, work;
before(async () => { browser = await launch(); mock = await new Mock().start(); tuning(mock); asked = exams(mock); work = tasks(mock); mock.keep(DOCUMENTS); });
after(async () => { await browser?.close(); await mock?.stop(); });

const ANSWER = `Weaving crosses two sets of threads:

1. The **warp** is stretched on the loom.
2. The **weft** is drawn through it, over and under.

| Weave | Pattern | Use |
|---|---|---|
| plain | 1/1 | shirts |
| twill | 2/1 | jeans |
| satin | 4/1 | linings |

\`\`\`rust
fn crosses(warp: usize, weft: usize) -> bool {
    (warp + weft) % 2 == 0 // plain weave
}
\`\`\`

A cloth of $n$ warp and $m$ weft threads has $n \\cdot m$ crossings.`;
const DOCUMENTS = [
    { id: "doc-1", name: "looms.pdf", pages: 2, text: "In the winter of 1811 a lamp fell in the carding room, and the mill burned for two days. Nobody was hurt, because the night watchman, Elias Thorne, rang the bell in time." },
    { id: "doc-2", name: "dyes-and-mordants-of-the-northern-valleys.md", text: "Madder gives red, weld gives yellow, and woad gives blue." },
];
// WEFT_SCREENS=1 makes the committed images anew.
const keepScreens = process.env.WEFT_SCREENS === "1";
// The narrowest is what WCAG asks for without scrolling in two directions.
const sizes = [["phone", 360, 740], ["desk", 1440, 900], ["narrow", 320, 640]];

// What sticks out to the right, has no room for its text, or lies under another control.
const cut = (page) => page.evaluate(() => {
    const found = [];
    const wide = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth > wide) found.push(`the page is ${document.documentElement.scrollWidth} wide`);
    const shown = [...document.querySelectorAll("button, a, input, select, textarea, h1, h2, h3, p, li, summary, dt, dd")].filter((n) => {
        const r = n.getBoundingClientRect();
        return r.width > 2 && r.height > 2 && n.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true }) && !n.closest(".hidden, .skip, [inert]");
    });
    const scroller = (n) => /auto|scroll/.test(getComputedStyle(n).overflowY) && !n.closest("pre, textarea, .table, .math-block");
    for (const n of document.querySelectorAll("div, section, ul, aside, dialog, p")) {
        if (scroller(n) && n.checkVisibility() && n.scrollWidth > n.clientWidth + 1) found.push(`${n.tagName}#${n.id}.${n.className} scrolls sideways: ${n.scrollWidth} of ${n.clientWidth}`);
    }
    const name = (n) => `${n.tagName.toLowerCase()}#${n.id} ${(n.getAttribute("aria-label") ?? n.textContent).trim().slice(0, 30)}`;
    const scrolls = (n) => { for (let p = n.parentElement; p; p = p.parentElement) if (/auto|scroll/.test(getComputedStyle(p).overflowX) && p.scrollWidth > p.clientWidth + 1) return true; return false; };
    for (const n of shown) {
        const r = n.getBoundingClientRect();
        if ((r.right > wide + 1 || r.left < -1) && !scrolls(n)) found.push(`${name(n)} leaves the page: ${Math.round(r.left)} to ${Math.round(r.right)}`);
        if (/^(?:BUTTON)$/.test(n.tagName) && n.scrollWidth > n.clientWidth + 2) found.push(`${name(n)} cuts its text`);
        if (/^(?:BUTTON|SELECT|INPUT|TEXTAREA)$/.test(n.tagName)) {
            if (r.width < 24 || r.height < 24) { if (n.type !== "checkbox" && n.type !== "radio") found.push(`${name(n)} is a small target: ${r.width} × ${r.height}`); }
            const [x, y] = [r.left + r.width / 2, r.top + r.height / 2];
            const top = document.elementFromPoint(x, y);
            if (y > 0 && y < innerHeight && top && !n.contains(top) && !top.contains(n) && !top.closest(".toast, dialog, #panel, #sidebar, #backdrop, #composer, #top")) found.push(`${name(n)} lies under ${name(top)}`);
        }
    }
    return found;
});

for (const [size, width, height] of sizes) {
    for (const dark of size === "narrow" ? [false] : [false, true]) {
        const shade = dark ? "dark" : "light";
        test(`${size}, ${shade}`, async () => {
            const { page, context, faults } = await visit(browser, mock.url, { width, height, dark });
            const state = async (name, keep) => {
                await page.waitForTimeout(150);
                assert.deepEqual(await cut(page), [], name);
                assert.deepEqual(await violations(page), [], name);
                if (keep && keepScreens && size !== "narrow") await webp(page, join(web, "screens", `${name}-${size}-${shade}.webp`));
            };
            await state("empty");
            mock.plan({ thinking: "They ask about weaving.", text: ANSWER, rate: 400 });
            await ask(page, "How does weaving work?");
            await page.waitForFunction(() => document.querySelectorAll(".math.set").length === 3 && document.querySelector(".hljs-keyword"));
            await page.locator(".toast").waitFor({ state: "detached" });
            await state("chat", true);
            mock.plan({ text: "Threads cross, and a cloth grows." });
            await page.keyboard.press("Alt+R");
            await idle(page);
            await page.keyboard.press("Alt+V");
            await state("compare", !dark);
            await page.keyboard.press("Escape");
            await page.keyboard.press("Alt+,");
            await page.click("#settings");
            await state("settings", !dark);
            await page.keyboard.press("Escape");
            if (size !== "desk") await page.click("#menu");
            await state("chats", size === "phone" && dark);
            await page.click("#help");
            await state("keys");
            await page.keyboard.press("Escape");
            await page.goto(`${mock.url}#/documents`);
            await page.waitForSelector("#page .drop");
            await state("documents", size === "desk" ? dark : !dark);
            await page.goto(`${mock.url}#/`);
            await page.click("#with-documents");
            mock.plan({ text: "The mill burned in **1811**, for two days [1]. Elias Thorne rang the bell in time [1].", rate: 200 });
            await ask(page, "When did the mill burn, and who rang the bell?");
            await page.waitForSelector(".sources .cited");
            await state("cited", size === "desk" ? !dark : dark);
            await page.locator("button.cite").first().click();
            await state("passage");
            await page.keyboard.press("Escape");
            await page.click("#with-documents");
            if (size !== "desk") await page.click("#menu");
            await page.click("a[href='#/models']");
            await page.waitForFunction(() => /Cache in use\s*25 %/.test(document.querySelector("[data-load]")?.textContent));
            assert.equal(await page.locator("#title").innerText(), "Models");
            await state("models", !dark);
            await page.selectOption("[data-key=plan-model]", "qwen3-0.6b-f16");
            await page.getByText("It fits on llvmpipe.").waitFor();
            await page.locator("section[aria-label='Memory plan']").scrollIntoViewIfNeeded();
            await page.getByRole("button", { name: "Make it" }).click();
            await page.locator("[data-status=running]").waitFor();
            await page.locator("section[aria-label='Memory plan']").evaluate((n) => n.scrollIntoView());
            await state("plan", size === "phone" ? dark : !dark);
            await page.locator("[data-status=running]").evaluate((n) => n.scrollIntoView({ block: "end" }));
            await state("smaller", size === "phone" && !dark);
            work.at(-1).finish();
            await page.getByText("It is there, as").first().waitFor();
            await page.goto(`${mock.url}#/tune`);
            await page.fill("[data-key=data]", "bad\nbad");
            await page.getByRole("button", { name: "Check" }).click();
            await page.getByText("2 things are wrong").waitFor();
            await state("tune-wrong");
            await page.getByRole("button", { name: "Put in examples" }).click();
            await page.fill("[data-key=name]", `cloth-${size}-${shade}`);
            await page.getByRole("button", { name: "Check" }).click();
            await page.getByText("Memory to train").waitFor();
            await state("tune-plan", size === "phone" && dark);
            await page.getByRole("button", { name: "Start" }).click();
            await page.getByText("It makes the model ready.").first().waitFor();
            for (let s = 1; s <= 22; s += 1) mock.step(s, s % 6 === 0 ? 2.9 * Math.exp(-s / 10) + 0.4 : null);
            await page.getByText("22 of 30").first().waitFor();
            await page.locator("svg.curve").first().scrollIntoViewIfNeeded();
            await state("tune", !dark);
            for (let s = 23; s <= 30; s += 1) mock.step(s);
            await page.getByText("It is done.").first().waitFor();
            await page.goto(`${mock.url}#/exam`);
            await page.getByRole("button", { name: "Start" }).click();
            await page.getByText("12 of 100 questions").first().waitFor();
            asked.at(-1).done();
            await page.locator(".job table").first().waitFor();
            await state("exam", size === "phone" ? dark : !dark);
            await page.selectOption("[data-key=suite]", "file");
            await state("exam-own");
            await page.selectOption("[data-key=suite]", "curriculum");
            await page.goto(`${mock.url}#/device`);
            await page.waitForFunction(() => document.querySelector("#page h3")?.textContent.includes("llvmpipe"));
            await state("device", dark);
            for (const name of ["Test the kernels", "Tune", "Measure the speed", "Draw the roofline"]) {
                await page.getByRole("button", { name, exact: true }).click();
                await page.locator("[data-status=running]").waitFor();
                if (name === "Test the kernels") await state("checking");
                work.at(-1).finish();
                await page.locator("[data-status=running]").waitFor({ state: "detached" });
            }
            await page.locator("section[aria-label='Check and measure']").evaluate((n) => n.scrollIntoView());
            await state("measure", size === "phone" ? dark : !dark);
            await page.locator("svg.roof").first().evaluate((n) => n.closest("article").scrollIntoView());
            await state("roofline", size === "phone" ? !dark : dark);
            await page.locator(".job details summary").first().click();
            await page.getByText("Tokens a second").last().scrollIntoViewIfNeeded();
            await state("results");
            await page.goto(`${mock.url}#/`);
            mock.plan({ status: 503, error: { message: "All slots are taken." }, headers: { "retry-after": "600" } });
            await ask(page, "Is there room?", { wait: false });
            await page.waitForSelector(".problem");
            await state("busy", !dark);
            await page.keyboard.press("Escape");
            await idle(page);
            assert.deepEqual(faults.filter((f) => !/Failed to load resource/.test(f)), []);
            await context.close();
        });
    }
}

test("the appearance can be chosen against the system, and stays", async () => {
    const { page, context } = await visit(browser, mock.url, { dark: true });
    const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.equal(await background(), "rgb(23, 25, 27)");
    await page.click("#theme");
    assert.equal(await background(), "rgb(247, 245, 241)");
    await page.reload();
    assert.equal(await background(), "rgb(247, 245, 241)");
    await context.close();
});
