//! The store when its process is killed at any moment.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use weft_documents::{Added, Options, Store, add, find};

use crate::support::{Bag, File, go_on, here};

const PATH: &str = "WEFT_DOCUMENTS_KILL";

/// A document of several passages.
fn text(n: usize) -> String {
    (0..12)
        .map(|i| {
            format!("# Part {i}\n\nDocument{n} says word{i} in a sentence of its own, number {n}. ").repeat(2)
        })
        .collect()
}

/// Not a test by itself: adds, replaces and removes documents, and says what is done, until it is killed.
#[test]
fn child() {
    let Ok(path) = std::env::var(PATH) else { return };
    let store = Store::open(path.as_ref()).expect("a store");
    let mut bag = Bag::new("bag", 96);
    let first = store.list().iter().filter_map(|r| r.name.strip_prefix("d")?.parse::<usize>().ok()).max();
    for n in first.map_or(0, |n| n + 1).. {
        let added = add(&store, &mut bag, &format!("d{n}"), text(n).as_bytes(), &here, &mut go_on);
        let Ok(Added::New(record)) = added else { panic!("{added:?}") };
        println!("\nadded d{n}");
        if n % 3 == 2 {
            println!("\nremoving d{n}");
            store.remove(&record.id).expect("removed");
            println!("\nremoved d{n}");
        }
    }
}

#[test]
fn what_was_said_to_be_kept_is_whole_after_a_kill() {
    let file = File::new("kill.redb");
    let mut state = 12345_u64;
    let (mut kept, mut unsure, mut total) = (Vec::<String>::new(), Vec::<String>::new(), 0);
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "kill::child", "--nocapture", "--test-threads=1"])
            .env(PATH, &file.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let out = BufReader::new(child.stdout.take().expect("stdout"));
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let wait = Duration::from_micros(30_000 + (state >> 33) % 120_000);
        let reader = std::thread::spawn(move || out.lines().map_while(Result::ok).collect::<Vec<_>>());
        std::thread::sleep(wait);
        child.kill().expect("killed");
        child.wait().expect("ended");
        for line in reader.join().expect("lines") {
            match line.split_once(' ') {
                Some(("added", name)) => kept.push(name.to_owned()),
                Some(("removing", name)) => {
                    kept.retain(|k| k != name);
                    unsure.push(name.to_owned());
                }
                _ => {}
            }
        }
        let store = Store::open(&file.0).unwrap_or_else(|e| panic!("round {round}: {e}"));
        let mut bag = Bag::new("bag", 96);
        let records = store.list();
        for name in &kept {
            assert!(records.iter().any(|r| r.name == *name), "round {round}: {name} is lost");
        }
        for record in &records {
            let n: usize = record.name[1..].parse().expect("a number");
            let hits = find(&store, &mut bag, None, &format!("document{n}"), Options { top: 40, judged: 0 });
            let own = hits.expect("found").into_iter().filter(|h| h.name == record.name).count() as u64;
            assert_eq!(own, record.passages, "round {round}: {} is not whole", record.name);
        }
        // At most one that the child had no time to speak of, a round.
        total = records.len();
        assert!(total <= kept.len() + unsure.len() + round + 1, "round {round}: {total}");
    }
    assert!(total > 5, "only {total} documents in all rounds");
}
