//! `weft rag`, with the model on board as an embedder: any model gives vectors, if its tokens are pooled.

use serde_json::Value;

use crate::support::cli::{command, fails, file, folder, ok, weft, weft_with};

const BREAD: &[u8] = b"# Bread\n\nA loaf needs flour, water and salt; the oven is heated to 230 degrees.\n\n# Rivers\n\nThe Tarn is a river of forty miles, which freezes rarely.\n";
const LOOMS: &[u8] = include_bytes!("../documents/tests/data/looms.pdf");

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
}

#[test]
fn documents_are_added_found_listed_and_removed() {
    let folder = folder("rag");
    let store = folder.join("d.redb").to_str().expect("UTF-8").to_owned();
    let (bread, looms) = (file(&folder, "bread.md", BREAD), file(&folder, "looms.pdf", LOOMS));
    fails(&["rag", "list", "--store", &store], &["no store of documents yet", "weft rag add"]);
    let add = ["rag", "add", "--store", &store, "--pooling", "mean", "--json", &bread, &looms];
    let added = lines(&ok(&add));
    assert_eq!((&added[0]["passages"], &added[1]["pages"]), (&Value::from(2), &Value::from(2)), "{added:?}");
    assert!(lines(&ok(&add)).iter().all(|l| l["known"] == true));
    let search = ["rag", "search", "--store", &store, "--pooling", "mean", "--top", "2"];
    let found = lines(&ok(&[&search[..], &["--json", "Which watchman rang the bell?"]].concat()));
    assert_eq!(
        (found.len(), &found[0]["name"], &found[0]["page"]),
        (2, &Value::from("looms.pdf"), &Value::from(2))
    );
    let text = ok(&[&search[..], &["How hot is the oven?"]].concat());
    assert!(text.starts_with("[1] bread.md, Bread  cosine ") && text.contains("230 degrees"), "{text}");
    // Another embedder, though it is the same file: its vectors are others.
    fails(
        &["rag", "search", "--store", &store, "--pooling", "last", "oven"],
        &["made with the embedder \"weft-mini\" (", "and this one is \"weft-mini\" ("],
    );
    assert_eq!(ok(&["rag", "list", "--store", &store]).lines().count(), 2);
    fails(
        &["rag", "remove", "--store", &store, "nothing.md"],
        &["no document \"nothing.md\"", "weft rag list"],
    );
    assert!(ok(&["rag", "remove", "--store", &store, "bread.md"]).contains("bread.md"));
    let left = lines(&ok(&["rag", "list", "--store", &store, "--json"]));
    assert_eq!((left.len(), &left[0]["name"]), (1, &Value::from("looms.pdf")));
    ok(&["rag", "remove", "--store", &store, "looms.pdf"]);
    let ran = weft(&[&search[..], &["How hot is the oven?"]].concat());
    assert!(ran.code == Some(0) && ran.stderr.contains("no passage is found"), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_added_is_said_in_a_line() {
    let folder = folder("rag-bad");
    let store = folder.join("d.redb").to_str().expect("UTF-8").to_owned();
    let add = |more: &[&str], parts: &[&str]| {
        fails(&[&["rag", "add", "--store", &store, "--pooling", "mean"], more].concat(), parts);
    };
    add(&["missing.txt"], &["missing.txt", "no such file or directory"]);
    add(&[folder.to_str().expect("UTF-8")], &["it is no file"]);
    add(&[&file(&folder, "x.bin", b"a\0b")], &["x.bin: it is neither text"]);
    add(&[&file(&folder, "e.txt", b" \n")], &["e.txt: there is no text in it"]);
    add(&[&file(&folder, "d.pdf", b"%PDF-1.4 damaged")], &["d.pdf: it is damaged, or no PDF"]);
    let none = file(&folder, "none.redb", b"this is no store");
    fails(&["rag", "list", "--store", &none], &["none.redb"]);
    assert!(ok(&["rag", "list", "--store", &store]).is_empty());
    fails(&["rag", "search", "--store", &store, "oven"], &["says no pooling"]);
}

/// What the hidden reader does with what no bound inside a process holds.
#[test]
fn a_hostile_pdf_ends_its_reader_alone() {
    let ran = weft_with(&["rag", "read-pdf"], LOOMS);
    assert_eq!(serde_json::from_str::<Vec<String>>(&ran.stdout).expect("pages").len(), 2, "{}", ran.stderr);
    // Brackets without end: a reader by descent would need a stack without end.
    let deep =
        [&b"%PDF-1.4\n1 0 obj\n"[..], &b"[".repeat(4 << 20), b"\nendobj\ntrailer<</Root 1 0 R>>\n%%EOF"]
            .concat();
    let folder = folder("rag-hostile");
    let store = folder.join("d.redb").to_str().expect("UTF-8").to_owned();
    let path = file(&folder, "deep.pdf", &deep);
    let ran = weft(&["rag", "add", "--store", &store, "--pooling", "mean", &path]);
    assert!(ran.code == Some(1) && ran.stderr.contains("deep.pdf: "), "{:?} {}", ran.code, ran.stderr);
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_whole_documents() {
    let folder = folder("rag-stop");
    let store = folder.join("d.redb").to_str().expect("UTF-8").to_owned();
    let small = file(&folder, "small.txt", b"The first is small.");
    let large = file(
        &folder,
        "large.txt",
        "One more sentence of no great length, that says little. ".repeat(40_000).as_bytes(),
    );
    let mut child =
        command(&["rag", "add", "--store", &store, "--pooling", "mean", "--json", &small, &large])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("weft");
    // The first line says that the small one is kept; then the large one is on its way.
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().expect("stdout"));
    std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
    std::thread::sleep(std::time::Duration::from_millis(300));
    // SAFETY: sends a signal to a child of ours, which has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    assert_eq!(child.wait().expect("ended").code(), Some(130));
    let left = lines(&ok(&["rag", "list", "--store", &store, "--json"]));
    assert_eq!((left.len(), &left[0]["name"]), (1, &Value::from("small.txt")));
}
