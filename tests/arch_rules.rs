//! Data flows one way: formats and runtime know nothing of ours, kernels know runtime, models know
//! those three, the server knows models, the harness knows all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::workspace::{OURS, metadata};

/// What each package may name in its manifest, dev-dependencies aside.
const MAY: &[(&str, &[&str])] = &[
    ("weft-formats", &[]),
    ("weft-runtime", &[]),
    ("weft-kernels", &["weft-runtime"]),
    ("weft-models", &["weft-formats", "weft-kernels", "weft-runtime"]),
    ("weft-curriculum", &[]),
    ("weft-documents", &[]),
    ("weft-evals", &["weft-curriculum", "weft-formats"]),
    ("weft-hub", &["weft-formats"]),
    ("weft-server", &["weft-documents", "weft-formats", "weft-hub", "weft-models", "weft-runtime"]),
    ("weft-web", &["weft-formats", "weft-models", "weft-runtime"]),
    (
        "weft-harness",
        &[
            "weft-curriculum",
            "weft-documents",
            "weft-evals",
            "weft-formats",
            "weft-hub",
            "weft-kernels",
            "weft-models",
            "weft-runtime",
            "weft-server",
        ],
    ),
];

/// Packages that only these may name: the GPU stays below, the terminal above.
const ONLY: &[(&str, &[&str])] = &[
    ("wgpu", &["weft-runtime"]),
    ("clap", &["weft-harness"]),
    ("indicatif", &["weft-harness"]),
    ("rustyline", &["weft-harness"]),
    ("ctrlc", &["weft-harness"]),
    ("memmap2", &["weft-formats"]),
    ("hayro-syntax", &["weft-documents"]),
    ("axum", &["weft-server"]),
    ("hyper", &["weft-server"]),
    ("tokio", &["weft-server"]),
    ("rustls", &["weft-hub"]),
    ("wasm-bindgen", &["weft-web"]),
    ("js-sys", &["weft-web"]),
];

/// (package, dependency, kind) for every dependency that one of ours names; kind is null, "build" or "dev".
fn arrows() -> Vec<(String, String, String)> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let ours = packages.iter().filter(|p| OURS.contains(&p["name"].as_str().expect("a name")));
    ours.flat_map(|p| {
        let from = p["name"].as_str().expect("a name");
        p["dependencies"].as_array().expect("dependencies").iter().map(move |d| {
            let kind = d["kind"].as_str().unwrap_or("normal");
            (from.to_owned(), d["name"].as_str().expect("a name").to_owned(), kind.to_owned())
        })
    })
    .collect()
}

#[test]
fn every_package_of_ours_has_a_rule() {
    let metadata = metadata();
    let members: BTreeSet<String> = metadata["workspace_members"]
        .as_array()
        .expect("members")
        .iter()
        .map(|id| {
            let packages = metadata["packages"].as_array().expect("packages");
            let package = packages.iter().find(|p| p["id"] == *id).expect("a member is a package");
            package["name"].as_str().expect("a name").to_owned()
        })
        .collect();
    assert_eq!(members, OURS.iter().map(|s| (*s).to_owned()).collect());
    assert_eq!(members, MAY.iter().map(|(name, _)| (*name).to_owned()).collect());
}

#[test]
fn no_arrow_points_upwards() {
    let arrows = arrows();
    assert!(arrows.len() > 30, "only {} dependencies were read", arrows.len());
    for (from, to, kind) in &arrows {
        if kind == "dev" || !OURS.contains(&to.as_str()) {
            continue;
        }
        let (_, may) = MAY.iter().find(|(name, _)| name == from).expect("a rule");
        assert!(may.contains(&to.as_str()), "{from} must not depend on {to}");
    }
}

#[test]
fn the_page_s_module_is_written_by_the_version_that_it_was_compiled_for() {
    let metadata = metadata();
    let mut packages = metadata["packages"].as_array().expect("packages").iter();
    let own = packages.find(|p| p["name"] == "wasm-bindgen").expect("wasm-bindgen")["version"].as_str();
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/bundle/Cargo.toml");
    let bundle = std::fs::read_to_string(bundle).expect("a manifest");
    let wanted = format!("wasm-bindgen-cli-support = \"={}\"", own.expect("a version"));
    assert!(bundle.contains(&wanted), "web/bundle/Cargo.toml should say {wanted}");
}

#[test]
fn the_gpu_stays_below_and_the_terminal_above() {
    for (from, to, kind) in &arrows() {
        if let Some((_, only)) = ONLY.iter().find(|(name, _)| name == to) {
            assert!(kind == "dev" || only.contains(&from.as_str()), "{from} must not depend on {to}");
        }
    }
}

/// Files of a crate that import each other in a circle may be at most so many.
const LARGEST_CIRCLE: usize = 6;

#[test]
fn no_large_circle_of_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for krate in ["kernels", "runtime"] {
        let files = Files::read(&root.join(krate).join("src"));
        let imports = files.imports();
        let arrows: usize = imports.values().map(BTreeSet::len).sum();
        assert!(arrows > 20, "{krate}: only {arrows} imports were read");
        for circle in circles(&imports) {
            let names: Vec<String> = circle.iter().map(|m| m.join("/")).collect();
            assert!(circle.len() <= LARGEST_CIRCLE, "{krate}: {} files in a circle: {names:?}", circle.len());
        }
    }
}

/// Lines of a function and of a file, and operands of an op, at most.
const FUNCTION: usize = 100;
const FILE: usize = 600;
const PARAMETERS: usize = 7;

/// Files that are tables or tests: cases, question templates, what only tests compile.
fn is_table(path: &str) -> bool {
    let tests = path.contains("/tests/") || path.starts_with("tests/") || path.ends_with("/tests.rs");
    tests || path.ends_with("/cases.rs") || path.starts_with("curriculum/src/")
}

/// The text of each file of ours that is neither a table nor a test, without the tests at its end, by path.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<_> = [
        "formats",
        "runtime",
        "kernels",
        "models",
        "curriculum",
        "documents",
        "evals",
        "hub",
        "server",
        "harness",
        "web",
    ]
    .map(|f| root.join(f))
    .to_vec();
    let mut all = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("below the root").to_str().expect("UTF-8").to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !is_table(&name) {
                let text = std::fs::read_to_string(&path).expect("readable");
                let text = text.split("#[cfg(test)]\nmod ").next().expect("a first part").to_owned();
                all.insert(name, text);
            }
        }
    }
    assert!(all.len() > 200, "only {} files were read", all.len());
    all
}

/// The functions of a formatted text: name, lines, and how many parameters each has besides `self`.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut all = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let words = line.trim_start();
        let indent = &line[..line.len() - words.len()];
        let before: Vec<&str> = words.split(' ').take_while(|w| *w != "fn").collect();
        let modifiers = |w: &&str| w.starts_with("pub") || ["const", "async", "unsafe"].contains(w);
        if before.len() == words.split(' ').count() || !before.iter().all(modifiers) {
            continue;
        }
        let end = format!("{indent}}}");
        let length = lines[i..].iter().position(|l| *l == end).map_or(1, |n| n + 1);
        let length = if line.ends_with('}') || line.ends_with(';') { 1 } else { length };
        let rest = lines[i..].join("\n");
        let rest = rest.split_once("fn ").expect("a function").1;
        let name = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        all.push((name, length, parameters(rest)));
    }
    all
}

/// How many parameters besides `self` the function has whose name a text begins with.
fn parameters(text: &str) -> usize {
    let (mut depth, mut angles, mut names, mut last) = (0, 0, Vec::new(), String::new());
    for c in text.chars() {
        match c {
            '<' => angles += 1,
            '>' if !last.ends_with('-') => angles -= 1,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        let outside = depth == 1 && angles == 0;
        match c {
            '(' if outside => last.clear(),
            ',' if outside => names.push(std::mem::take(&mut last)),
            ')' if depth == 0 && angles == 0 => break,
            c => last.push(c),
        }
    }
    names.push(last);
    let own = |n: &&String| !n.trim().is_empty() && n.trim().trim_start_matches(['&', ' ']) != "self";
    names.iter().filter(own).filter(|n| !["&mut self", "mut self"].contains(&n.trim())).count()
}

#[test]
fn functions_and_files_are_short() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let lines = text.lines().count();
        if lines > FILE {
            wrong.push(format!("{name} has {lines} lines"));
        }
        let long = functions(&text).into_iter().filter(|f| f.1 > FUNCTION);
        wrong.extend(long.map(|(function, lines, _)| format!("{name}: {function} has {lines} lines")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn ops_take_few_operands() {
    let mut wrong = Vec::new();
    let mut read = 0;
    for (name, text) in sources().into_iter().filter(|(name, _)| name.starts_with("kernels/src/ops/")) {
        let all = functions(&text);
        read += all.len();
        let many = all.into_iter().filter(|f| f.2 > PARAMETERS);
        wrong.extend(many.map(|(function, _, n)| format!("{name}: {function} takes {n}")));
    }
    assert!(read > 200, "only {read} functions of ops were read");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn functions_are_measured() {
    let text = "impl A {\n    pub(crate) fn one(\n        &self,\n        a: [u32; 2],\n        f: impl Fn(u32, u8) -> \
                Map<u8, u8>,\n    ) -> u32 {\n        1\n    }\n}\n\nfn two(b: u32) {}\n\ntrait T {\n    fn three(&mut self, \
                _: (u8, u8));\n}\n";
    let want = [("one", 7, 2), ("two", 1, 1), ("three", 1, 1)];
    assert_eq!(functions(text), want.map(|(name, lines, n)| (name.to_owned(), lines, n)));
    let long = format!("fn long() {{\n{}}}\n", "    step();\n".repeat(FUNCTION));
    assert_eq!(functions(&long)[0].1, FUNCTION + 2);
}

/// The segments of a module's path.
type Module = Vec<String>;

/// The text of each module of a crate, without comments, strings and tests.
struct Files(BTreeMap<Module, String>);

impl Files {
    fn read(src: &Path) -> Files {
        let mut all = BTreeMap::new();
        let mut folders = vec![(src.to_owned(), Module::new())];
        while let Some((folder, at)) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder").map(|e| e.expect("an entry").path()) {
                let name = entry.file_stem().expect("a name").to_string_lossy().into_owned();
                let inner: Module = at.iter().cloned().chain([name.clone()]).collect();
                if entry.is_dir() {
                    folders.push((entry, inner));
                } else if entry.extension().is_some_and(|e| e == "rs") && name != "tests" {
                    let module = if ["mod", "lib"].contains(&&name[..]) { at.clone() } else { inner };
                    all.insert(module, without_noise(&std::fs::read_to_string(&entry).expect("a text")));
                }
            }
        }
        Files(all)
    }

    /// The segments of a path in a module's text, from the crate's root on; `None` for what is not ours.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Module> {
        let up = path.iter().take_while(|s| *s == "super").count();
        let rest = path.iter().skip(up).cloned();
        match &path[0][..] {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some(module.iter().cloned().chain(path[1..].iter().cloned()).collect()),
            "super" => Some(module[..module.len() - up].iter().cloned().chain(rest).collect()),
            first => {
                let child: Module = module.iter().cloned().chain([first.to_owned()]).collect();
                self.0
                    .contains_key(&child)
                    .then(|| module.iter().cloned().chain(path.iter().cloned()).collect())
            }
        }
    }

    /// Which modules each module takes names from; a name that is handed on counts where it is defined.
    fn imports(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let mut used: BTreeMap<Module, Vec<Module>> = BTreeMap::new();
        let mut handed_on: BTreeMap<(Module, String), Option<Module>> = BTreeMap::new();
        for (module, text) in &self.0 {
            let mut paths = Vec::new();
            let mut rest = String::new();
            for statement in text.split_inclusive(';') {
                let Some((before, tree)) = statement.rsplit_once("use ") else {
                    rest += statement;
                    continue;
                };
                rest += before;
                for path in flat(tree.trim_end_matches(';')) {
                    let absolute = self.absolute(module, &path);
                    if before.trim_end().ends_with("pub") || before.trim_end().ends_with("pub(crate)") {
                        let name = path.last().expect("a name").clone();
                        handed_on.insert((module.clone(), name), absolute.clone());
                    }
                    paths.extend(absolute);
                }
            }
            paths.extend(paths_in(&rest).iter().filter_map(|p| self.absolute(module, p)));
            used.insert(module.clone(), paths);
        }
        let resolve = |mut path: Module| -> Option<Module> {
            for _ in 0..8 {
                let n = (0..=path.len()).rev().find(|&n| self.0.contains_key(&path[..n]))?;
                let module = path[..n].to_vec();
                match path.get(n).and_then(|name| handed_on.get(&(module.clone(), name.clone()))) {
                    // Handed on from another crate.
                    Some(None) => return None,
                    Some(Some(to)) if *to != path => {
                        path = to.iter().chain(&path[n + 1..]).cloned().collect();
                    }
                    _ => return Some(module),
                }
            }
            None
        };
        let ends = |(module, paths): (Module, Vec<Module>)| {
            let to = paths.into_iter().filter_map(resolve).filter(|to| *to != module).collect();
            (module, to)
        };
        used.into_iter().map(ends).collect()
    }
}

/// Rust text without its tests, comments and strings.
fn without_noise(text: &str) -> String {
    let end =
        text.find("#[cfg(test)]\nmod tests {").or_else(|| text.find("#[cfg(test)]\npub(crate) mod tests {"));
    let code: String = text[..end.unwrap_or(text.len())]
        .lines()
        .filter(|l| !l.trim_start().starts_with("//"))
        .flat_map(|l| [l, "\n"])
        .collect();
    code.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

/// The paths of a `use` tree, without what they are renamed to.
fn flat(tree: &str) -> Vec<Module> {
    let tree = tree.trim();
    let Some((before, inner)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.split("::").map(|s| s.trim().to_owned()).collect()];
    };
    let inner = inner.trim_end();
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut start, mut all) = (0, 0, Vec::new());
    for (i, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth <= 0 && !inner[start..i].trim().is_empty() => {
                all.extend(flat(&format!("{before}{}", inner[start..i].trim())));
                start = i + 1;
            }
            ',' if depth <= 0 => start = i + 1,
            _ => {}
        }
    }
    all
}

/// The paths of two segments and more in code.
fn paths_in(code: &str) -> Vec<Module> {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c| !word(c)).filter(|w| w.contains("::"));
    words
        .map(|w| w.split("::").map(str::to_owned).collect::<Module>())
        .filter(|p| p.len() > 1 && p.iter().all(|s| !s.is_empty() && !s.contains(':')))
        .collect()
}

/// The circles of a graph: its strongly connected components of two and more (Tarjan 1972).
fn circles(graph: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<Vec<Module>> {
    #[derive(Default)]
    struct Walk<'a> {
        number: BTreeMap<&'a Module, usize>,
        low: BTreeMap<&'a Module, usize>,
        open: Vec<&'a Module>,
        found: Vec<Vec<Module>>,
    }
    fn visit<'a>(w: &mut Walk<'a>, graph: &'a BTreeMap<Module, BTreeSet<Module>>, v: &'a Module) {
        let n = w.number.len();
        w.number.insert(v, n);
        w.low.insert(v, n);
        w.open.push(v);
        for to in graph.get(v).into_iter().flatten() {
            if !w.number.contains_key(to) {
                visit(w, graph, to);
                w.low.insert(v, w.low[v].min(w.low[to]));
            } else if w.open.contains(&to) {
                w.low.insert(v, w.low[v].min(w.number[to]));
            }
        }
        if w.low[v] == n {
            let at = w.open.iter().position(|o| *o == v).expect("it is open");
            let circle: Vec<Module> = w.open.split_off(at).into_iter().cloned().collect();
            if circle.len() > 1 {
                w.found.push(circle);
            }
        }
    }
    let mut walk = Walk::default();
    for v in graph.keys() {
        if !walk.number.contains_key(v) {
            visit(&mut walk, graph, v);
        }
    }
    walk.found
}

/// What reads imports sees circles, through names that are handed on as well.
#[test]
fn circles_are_found() {
    let texts = [
        ("", "mod a;\nmod b;\npub use b::Thing;\npub use other::Budget;"),
        ("a", "use crate::{Budget, Thing};\nuse crate::c::{self, deep::{X, Y}};"),
        ("b", "fn f() { crate::c::deep::g(); }"),
        ("c", ""),
        ("c/deep", "use super::super::a;\n// use crate::b;\n"),
    ];
    let module =
        |path: &str| -> Module { path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect() };
    let files = Files(texts.iter().map(|(path, text)| (module(path), without_noise(text))).collect());
    let imports = files.imports();
    let of = |path: &str| imports[&module(path)].iter().map(|m| m.join("/")).collect::<Vec<_>>();
    assert_eq!(of("a"), ["b", "c", "c/deep"]);
    assert_eq!(of("b"), ["c/deep"]);
    assert_eq!(of("c/deep"), ["a"]);
    let found = circles(&imports);
    assert_eq!(found.len(), 1);
    let names: BTreeSet<String> = found[0].iter().map(|m| m.join("/")).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a", "b", "c/deep"]);
}
