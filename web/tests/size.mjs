// What each file of the page takes compressed. `node size.mjs` prints it, the largest last.
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { web } from "./mock.mjs";

export const LIMIT = 200 * 1024;

export function* walk(folder) {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
        const path = join(folder, entry.name);
        if (entry.isDirectory()) yield* walk(path);
        else yield relative(web, path);
    }
}

// The files that a server gives, by their paths in web/.
export const served = [...walk(web)].filter((p) => !/^(?:tests|screens|engine|wasm|bundle|dist)\//.test(p) && !/(?:\.md|LICENSE|versions\.json|csp\.txt)$/.test(p));
export const sizes = () => served.map((path) => [path, gzipSync(readFileSync(join(web, path)), { level: 9 }).length]);
export const sum = (all) => all.reduce((n, [, size]) => n + size, 0);

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
    const all = sizes().sort((a, b) => a[1] - b[1]);
    for (const [path, size] of all) console.log(`${String(size).padStart(7)}  ${path}`);
    console.log(`${String(sum(all)).padStart(7)}  bytes of ${LIMIT}`);
}
