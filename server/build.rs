//! Lists the files of the page in `web/` for `src/routes/page.rs`, each with its type, its tag and a compressed twin.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// The type of a file of the page by the end of its name; None: it is none, but a note, a licence or a test.
fn kind(name: &str) -> Option<&'static str> {
    Some(match name.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webmanifest" => "application/manifest+json",
        _ => return None,
    })
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|e| e.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["tests", "screens", "engine", "wasm", "bundle", "dist"].contains(&name.as_str()) {
                walk(&path, found);
            }
        } else if kind(&name).is_some() {
            found.push(path);
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut to = GzEncoder::new(Vec::new(), Compression::best());
    to.write_all(bytes).expect("memory");
    to.finish().expect("memory")
}

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let web = here.parent().expect("the workspace").join("web");
    println!("cargo::rerun-if-changed=build.rs");
    for part in ["icons", "js", "vendor", "index.html", "app.css", "sw.js", "manifest.webmanifest"] {
        println!("cargo::rerun-if-changed={}", web.join(part).display());
    }
    let mut files = Vec::new();
    walk(&web, &mut files);
    files.sort();
    let mut table = "static FILES: &[File] = &[\n".to_owned();
    for (n, path) in files.iter().enumerate() {
        let bytes = fs::read(path).expect("a file of the page");
        let parts: Vec<_> =
            path.strip_prefix(&web).expect("a file of web").iter().map(|p| p.to_string_lossy()).collect();
        let name = parts.join("/");
        let address = if name == "index.html" { "/".to_owned() } else { format!("/{name}") };
        let tag: String = Sha256::digest(&bytes).iter().take(12).fold(String::new(), |mut tag, b| {
            write!(tag, "{b:02x}").expect("memory");
            tag
        });
        let small = gzip(&bytes);
        // What is compressed already only grows.
        let gzip = if small.len() < bytes.len() {
            let file = format!("{n}.gz");
            fs::write(out.join(&file), small).expect("the folder that cargo gives");
            format!("Some(include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}\")))")
        } else {
            "None".to_owned()
        };
        let kind = kind(&name).expect("a type");
        writeln!(
            table,
            "    File {{ path: {address:?}, kind: {kind:?}, tag: \"{tag}\", plain: include_bytes!({path:?}), gzip: {gzip} }},"
        )
        .expect("memory");
    }
    table += "];\n";
    fs::write(out.join("page.rs"), table).expect("the folder that cargo gives");
}
