// Copies the page's libraries, unchanged, from node_modules into web/vendor, with their licences and a list of versions
// and checksums. Run it after a version in package.json has changed: npm ci && node vendor.mjs
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const vendor = join(here, "..", "vendor");
const languages = ["bash", "c", "cpp", "css", "diff", "go", "ini", "java", "javascript", "json", "markdown", "python",
    "rust", "sql", "typescript", "xml", "yaml"];
const libraries = {
    marked: { from: "marked", files: { "lib/marked.esm.js": "marked.esm.js" }, licence: "LICENSE" },
    dompurify: { from: "dompurify", files: { "dist/purify.min.js": "purify.min.js" }, licence: "LICENSE" },
    temml: { from: "temml", files: { "dist/temml.min.js": "temml.min.js" }, licence: "LICENSE" },
    highlight: {
        from: "@highlightjs/cdn-assets",
        files: {
            "es/core.min.js": "core.min.js",
            ...Object.fromEntries(languages.map((l) => [`es/languages/${l}.min.js`, `languages/${l}.min.js`])),
        },
        licence: "LICENSE",
    },
};

rmSync(vendor, { recursive: true, force: true });
const list = {};
for (const [name, { from, files, licence }] of Object.entries(libraries)) {
    const source = join(here, "node_modules", from);
    const about = JSON.parse(readFileSync(join(source, "package.json"), "utf8"));
    list[name] = { package: from, version: about.version, licence: about.license, sha256: {} };
    for (const [path, to] of Object.entries({ ...files, [licence]: "LICENSE" })) {
        const target = join(vendor, name, to);
        mkdirSync(dirname(target), { recursive: true });
        cpSync(join(source, path), target);
        list[name].sha256[to] = createHash("sha256").update(readFileSync(target)).digest("hex");
    }
}
writeFileSync(join(vendor, "versions.json"), `${JSON.stringify(list, null, 2)}\n`);
