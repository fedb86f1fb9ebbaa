// A screen as a small WebP: Chromium itself encodes what it shows.
import { writeFileSync } from "node:fs";

export async function webp(page, path) {
    const session = await page.context().newCDPSession(page);
    for (let quality = 80; quality >= 30; quality -= 10) {
        const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality, optimizeForSpeed: false });
        const bytes = Buffer.from(data, "base64");
        if (bytes.length < 40 * 1024) {
            writeFileSync(path, bytes);
            await session.detach();
            return;
        }
    }
    throw new Error(`${path} does not come under 40 KiB`);
}
