//! From files to citations.

use weft_documents::{Added, Error, Kind, Options, Store, add, find};

use crate::support::{Bag, File, Prefers, go_on, here};

const NOTES: &str = "# Rivers\n\nThe Tarn is a river of forty miles. It freezes rarely.\n\n# Bread\n\nA loaf needs \
flour, water and salt; the oven is heated to 230 degrees. Bakers wait until the dough has doubled.\n";
const LOOMS: &[u8] = include_bytes!("data/looms.pdf");

fn names(store: &Store) -> Vec<String> {
    store.list().into_iter().map(|r| r.name).collect()
}

#[test]
fn a_question_finds_its_passage() {
    let store = Store::in_memory().expect("memory");
    let mut bag = Bag::new("bag", 64);
    let added = add(&store, &mut bag, "notes.md", NOTES.as_bytes(), &here, &mut go_on).expect("added");
    let Added::New(record) = &added else { panic!("{added:?}") };
    assert_eq!((record.kind, record.passages, record.pages), (Kind::Markdown, 2, None));
    let looms = add(&store, &mut bag, "looms.pdf", LOOMS, &here, &mut go_on).expect("added");
    assert_eq!(looms.record().pages, Some(2));
    let mut ask = |question: &str| {
        find(&store, &mut bag, None, question, Options::default()).expect("found").swap_remove(0)
    };
    let hit = ask("Who rang the bell when the mill burned?");
    assert_eq!((hit.name.as_str(), hit.page), ("looms.pdf", Some(2)));
    assert!(hit.text.contains("Elias Thorne") && hit.cosine.is_some() && hit.words.is_some(), "{hit:?}");
    let hit = ask("How hot is the oven?");
    assert_eq!((hit.name.as_str(), hit.heading.as_str(), hit.page), ("notes.md", "Bread", None));
    assert_eq!(&NOTES[hit.start..hit.end], hit.text);
    // The last word of a question counts; the vectors of these tests leave short ones out.
    assert_eq!(ask("oven").cosine, hit.cosine);
    let mut judge = Prefers("freezes");
    let hits =
        find(&store, &mut bag, Some(&mut judge), "oven", Options { top: 2, judged: 9 }).expect("found");
    assert!(hits.len() == 2 && hits[0].heading == "Rivers" && hits[0].judged == Some(1.0), "{hits:?}");
    assert!(find(&store, &mut bag, None, " ", Options::default()).is_err());
    // A question of any length is asked.
    let long = "river ".repeat(5000);
    assert_eq!(find(&store, &mut bag, None, &long, Options::default()).expect("found")[0].heading, "Rivers");
}

#[test]
fn documents_come_and_go() {
    let file = File::new("come.redb");
    let store = Store::open(&file.0).expect("a store");
    let mut bag = Bag::new("bag", 32);
    let mut put = |store: &Store, name: &str, text: &str| {
        add(store, &mut bag, name, text.as_bytes(), &here, &mut go_on).expect("added")
    };
    put(&store, "a.txt", "Apples are red.");
    put(&store, "b.txt", "Bananas are yellow.");
    assert!(matches!(put(&store, "a.txt", "Apples are red."), Added::Known(_)));
    let new = put(&store, "a.txt", "Apricots are orange.").record().clone();
    assert_eq!(names(&store), ["b.txt", "a.txt"]);
    let mut bag = Bag::new("bag", 32);
    let mut found = |store: &Store, q: &str| {
        let hits = find(store, &mut bag, None, q, Options::default()).expect("found");
        hits.into_iter().filter(|h| h.words.is_some()).map(|h| h.text).collect::<Vec<_>>()
    };
    assert!(found(&store, "apples").is_empty());
    assert_eq!(found(&store, "apricots"), ["Apricots are orange."]);
    assert!(Store::open(&file.0).unwrap_err().to_string().contains("another program has it open"));
    drop(store);
    let store = Store::open(&file.0).expect("a store");
    assert_eq!(found(&store, "apricots"), ["Apricots are orange."]);
    assert_eq!(store.get(&new.id).as_ref(), Some(&new));
    assert_eq!(store.remove(&new.id), Ok(Some(new.clone())));
    assert_eq!(store.remove(&new.id), Ok(None));
    assert!(found(&store, "apricots").is_empty() && names(&store) == ["b.txt"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&file.0).expect("a file").permissions().mode() & 0o777, 0o600);
    }
    drop(store);
    std::fs::write(&file.0, b"no store").expect("written");
    assert!(Store::open(&file.0).unwrap_err().to_string().contains(&*file.0.to_string_lossy()));
}

#[test]
fn vectors_of_another_model_are_refused_by_name() {
    let file = File::new("other.redb");
    let mut first = Bag::new("minilm", 32);
    let store = Store::open(&file.0).expect("a store");
    add(&store, &mut first, "a.txt", b"Apples are red.", &here, &mut go_on).expect("added");
    drop(store);
    let store = Store::open(&file.0).expect("a store");
    for mut other in [Bag::new("bge", 32), Bag::new("minilm", 64)] {
        let e = add(&store, &mut other, "b.txt", b"Bananas.", &here, &mut go_on).unwrap_err();
        assert!(
            matches!(e, Error::OtherEmbedder { .. }) && e.to_string().contains("\"minilm\" (32 values"),
            "{e}"
        );
        assert!(find(&store, &mut other, None, "apples", Options::default()).is_err());
    }
    assert_eq!(names(&store), ["a.txt"]);
}

#[test]
fn what_is_cancelled_leaves_nothing() {
    let store = Store::in_memory().expect("memory");
    let mut bag = Bag { patience: 40, ..Bag::new("bag", 32) };
    let text = "This is a sentence of no great length that says little.\n\n".repeat(600);
    let e = add(&store, &mut bag, "a.txt", text.as_bytes(), &here, &mut go_on).unwrap_err();
    assert_eq!(e, Error::Cancelled);
    let mut bag = Bag::new("bag", 32);
    let mut told = Vec::new();
    let e = add(&store, &mut bag, "a.txt", text.as_bytes(), &here, &mut |done, all| {
        told.push((done, all));
        if done > 0 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    });
    assert_eq!((e.unwrap_err(), told[0].0, told.len()), (Error::Cancelled, 0, 2));
    assert!(names(&store).is_empty());
    for (name, bytes) in [("x.bin", &b"a\0b"[..]), ("e.txt", b"  \n"), ("d.pdf", b"%PDF-1.4")] {
        assert!(matches!(
            add(&store, &mut bag, name, bytes, &here, &mut go_on),
            Err(Error::Unreadable { .. })
        ));
    }
}

/// A process may end, or the disk be full, while the file is made: nobody is to remove it by hand.
#[test]
fn a_file_that_was_begun_and_not_made_is_begun_again() {
    let file = File::new("begun.redb");
    for mark in [0, 20, 300] {
        let mut bytes = vec![0_u8; 73_728];
        bytes[mark] = u8::from(mark > 0);
        std::fs::write(&file.0, bytes).expect("written");
        let store = Store::open(&file.0).expect("begun again");
        let mut bag = Bag::new("bag", 64);
        add(&store, &mut bag, "notes.md", NOTES.as_bytes(), &here, &mut go_on).expect("added");
        drop(store);
        assert_eq!(names(&Store::open(&file.0).expect("there")), ["notes.md"]);
    }
    // What is not made of zeros is another's.
    let mut other = vec![0_u8; 73_728];
    other[5000] = 1;
    for bytes in [other, vec![0; 1 << 20], b"a text".to_vec()] {
        std::fs::write(&file.0, &bytes).expect("written");
        let line = Store::open(&file.0).expect_err("foreign").to_string();
        assert!(line.contains("begun.redb") && !line.contains("os error"), "{line}");
        assert!(std::fs::read(&file.0).expect("there") == bytes, "changed");
    }
    std::fs::remove_file(&file.0).expect("removed");
    let full = |_| Err::<(), _>("no space left".to_owned());
    assert_eq!(weft_documents::open_file(&file.0, full), Err("no space left".to_owned()));
    assert!(!file.0.exists(), "a new file is left");
    drop(Store::open(&file.0).expect("made"));
    assert!(weft_documents::open_file(&file.0, full).is_err());
    assert!(file.0.exists(), "an older store is gone");
}
