// The real server: `weft serve` with weft-mini, from WEFT_BIN.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";

export const binary = process.env.WEFT_BIN ?? "";
// Why the real server cannot be asked, or false.
export const missing = existsSync(binary) ? false : "WEFT_BIN names no weft";

export class Weft {
    async start(port = 0, more = []) {
        this.child = spawn(binary, ["serve", "--port", String(port), ...more], { stdio: ["ignore", "ignore", "pipe"], env: { XDG_RUNTIME_DIR: "/tmp", ...process.env } });
        this.said = "";
        this.gone = new Promise((resolve) => { this.child.on("exit", resolve); });
        this.url = await new Promise((resolve, reject) => {
            const late = setTimeout(() => reject(new Error(`no address within 60 s: ${this.said}`)), 60000);
            this.child.stderr.on("data", (part) => {
                this.said += part;
                const at = /http:\/\/[\d.:[\]a-f]+\//.exec(this.said);
                if (at) { clearTimeout(late); resolve(at[0]); }
            });
            this.child.on("exit", (code) => { clearTimeout(late); reject(new Error(`weft serve ended with ${code}: ${this.said}`)); });
        });
        this.port = Number(new URL(this.url).port);
        return this;
    }

    async stop(signal = "SIGTERM") {
        this.child.kill(signal);
        await this.gone;
    }

    async get(path) { return (await fetch(new URL(path, this.url))).json(); }
    // How many answers are drawn now.
    async drawing() { return (await this.get("slots")).filter((s) => s.is_processing).length; }
}
