//! Chat templates are total: no source makes one panic, hang, take the stack or memory out of proportion.

use std::time::{Duration, Instant};

use alloc::{Counting, peak_of};
use serde_json::Value as Json;
use weft_formats::chat::{Error, Message, Options, Template};

#[path = "support/alloc.rs"]
mod alloc;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MAX_BYTES: usize = 256 << 20;

/// Renders a source within the bounds; they hold on a thread of 2 MiB of stack, as a test's is.
fn render(source: &str, messages: &[Message]) -> Result<String, Error> {
    let options = Options { add_generation_prompt: true, ..Options::default() };
    let once = || {
        let start = Instant::now();
        let out = peak_of(|| Template::new(source, "<s>", "</s>").and_then(|t| t.render(messages, &options)));
        (out, start.elapsed())
    };
    let shown = source.chars().take(80).collect::<String>();
    // A debug build on a busy machine is slower than what the bound is for.
    let most = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 5 });
    let ((out, peak), took) = once();
    // What else runs may have taken the time: then once more.
    assert!(took < most || once().1 < most, "{took:?} for {shown}");
    assert!(peak <= MAX_BYTES, "{} MiB for {shown}", peak >> 20);
    if let Err(e) = &out {
        let line = e.to_string();
        assert!(!line.contains('\n') && line.len() < 500, "{line}");
    }
    out
}

/// Each of these takes a naive engine's memory, stack or time; all must end in an error.
#[test]
fn hostile_templates_end_within_bounds() {
    let wrap =
        |inner: &str, n: usize| format!("{}{inner}{}", "{% if true %}".repeat(n), "{% endif %}".repeat(n));
    let sources = [
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}".to_owned(),
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}".to_owned(),
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s.replace('a', 'aa') %}{% endfor %}".to_owned(),
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}".to_owned(),
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}".to_owned(),
        "{% set ns = namespace(s=[1, 2, 3, 4]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}".to_owned(),
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s | tojson }}".to_owned(),
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s == ns.s ~ '' }}{{ ns.s }}".to_owned(),
        "{% set ns = namespace(s=[1], t=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.s == ns.t }}".to_owned(),
        "{% set ns = namespace(s=[1]) %}{% for i in range(90000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}".to_owned(),
        "{% set ns = namespace() %}{% set ns.s = ns %}{{ ns | tojson }}".to_owned(),
        "{% set ns = namespace() %}{% set ns.s = ns %}{{ ns }}".to_owned(),
        "{% set ns = namespace() %}{% for i in range(90000) %}{% set ns.s = namespace(s=ns.s) %}{% endfor %}{{ ns }}".to_owned(),
        "{% set x = 'a' * 10000000 %}{% for i in range(100000) %}{% set y = x | upper %}{% endfor %}".to_owned(),
        "{% set x = 'a' * 10000000 %}{% for i in range(100000) %}{% set y = x is lower %}{% endfor %}".to_owned(),
        "{% set x = 'a' * 10000000 %}{% for i in range(100000) %}{% if x == x ~ '' %}{% endif %}{% endfor %}".to_owned(),
        "{% set x = 'a' * 10000000 %}{% for i in range(100000) %}{% if 'b' in x %}{% endif %}{% endfor %}".to_owned(),
        "{% set x = 'a b ' * 1000000 %}{% for i in range(100000) %}{% set y = x.split() %}{% endfor %}".to_owned(),
        "{{ 'a b' * 10000000000 }}".to_owned(),
        "{{ [1] * 10000000000 }}".to_owned(),
        "{{ ('a' * 100000000) | list }}".to_owned(),
        "{{ ('a' * 20000000)[::-1] | list | length }}".to_owned(),
        "{{ [1] | batch(10000000000, 0) | list | length }}".to_owned(),
        "{{ [1] | slice(10000000000) | list | length }}".to_owned(),
        "{{ 'a\nb' | indent(1000000000) | length }}".to_owned(),
        "{{ ('a\n' * 1000000) | indent(100000) | length }}".to_owned(),
        "{{ 'a'.ljust(10000000000) | length }}".to_owned(),
        "{{ '%*d' % (10000000000, 1) }}{{ ('%1000000d' * 1000) % 1 }}".to_owned(),
        "{{ 'a'.join('b' * 100000000) }}".to_owned(),
        "{{ ('a' * 100000).replace('', 'b' * 100000) }}".to_owned(),
        "{{ [[1]] | tojson(indent=1000000000) }}{{ messages | tojson(indent='a' * 100000000) }}".to_owned(),
        "{{ range(100000) | map('string') | join('x' * 100000) }}".to_owned(),
        "{{ 2 ** 100000000 }}".to_owned(),
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}".to_owned(),
        "{% for a in range(100000) %}{{ 'x' * 9000000 }}{% endfor %}".to_owned(),
        "{% for a in range(100000) %}{% for b in range(100000) %}{{ 'a' }}{% endfor %}{% endfor %}".to_owned(),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        "{% macro m(x) %}{% for i in [1] %}{% if true %}{% set y %}{{ m(x ~ x) }}{% endset %}{% endif %}{% endfor %}{% endmacro %}{{ m('a') }}".to_owned(),
        "{% for x in [[[1]]] recursive %}{{ loop([x]) }}{% endfor %}".to_owned(),
        format!("{{{{ {}1 }}}}", "-".repeat(20_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(20_000)),
        format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("{{{{ {}1{} }}}}", "[".repeat(20_000), "]".repeat(20_000)),
        format!("{{{{ x{} }}}}", ".a".repeat(20_000)),
        format!("{{{{ x{} }}}}", "|e".repeat(20_000)),
        format!("{{{{ 1{} }}}}", " + 1".repeat(20_000)),
        format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(20_000)),
        format!("{{{{ 1{} }}}}", " is eq 1".repeat(20_000)),
        format!("{{% set {}a{} = 1 %}}", "(".repeat(20_000), ")".repeat(20_000)),
        wrap("x", 20_000),
        format!("{{{{ '{}'.format({}) }}}}", "{0[0]}".repeat(10_000), "['a' * 100000]"),
    ];
    for source in &sources {
        let out = render(source, &[Message::user("hi")]);
        assert!(out.is_err(), "{}", source.chars().take(80).collect::<String>());
    }
    // A chain that is long, but no longer than some template could have.
    assert_eq!(render(&format!("{{{{ 1{} }}}}", " + 1".repeat(150)), &[]).unwrap(), "151");
    assert_eq!(render(&wrap("x", 60), &[]).unwrap(), "x");
}

/// Long conversations are far from the bounds.
#[test]
fn long_conversations_render() {
    let source = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content.split('</think>')[-1].lstrip('\\n') + '<|im_end|>\\n' }}{% endfor %}";
    let message =
        |i: usize| Message::new(if i.is_multiple_of(2) { "user" } else { "assistant" }, "word ".repeat(100));
    let messages: Vec<Message> = (0..10_000).map(message).collect();
    assert!(render(source, &messages).unwrap().len() > 5_000_000);
}

/// Mutated templates: bytes dropped, doubled, swapped and put in, from what templates are made of.
#[test]
fn mutated_templates_are_values_or_errors() {
    let text = include_str!("data/chat/snippets.json");
    let all: Json = serde_json::from_str(text).unwrap();
    let own = include_str!("data/chat/own.jinja");
    let mut sources: Vec<&str> =
        all["snippets"].as_array().unwrap().iter().filter_map(|s| s["source"].as_str()).collect();
    sources.push(own);
    let parts = [
        "{%",
        "%}",
        "{{",
        "}}",
        "{#",
        "-",
        "'",
        "\"",
        "(",
        ")",
        "[",
        "]",
        " | ",
        " for ",
        " in ",
        "\\",
        "ü",
        "\n",
        "999999999",
        "*",
        "loop",
        "(x) ",
    ];
    let mut random = 20_261_128u64;
    let mut next = move |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % n
    };
    let messages = [Message::user("hi"), Message::assistant("yes")];
    for _ in 0..20_000 {
        let mut chars: Vec<char> = sources[next(sources.len())].chars().collect();
        for _ in 0..1 + next(4) {
            let at = next(chars.len() + 1);
            let end = (at + next(6)).min(chars.len());
            match next(3) {
                0 => drop(chars.drain(at..end)),
                1 => drop(chars.splice(at..at, chars[at..end].to_vec())),
                _ => drop(chars.splice(at..end, parts[next(parts.len())].chars())),
            }
        }
        let source: String = chars.into_iter().collect();
        let _ = render(&source, &messages);
    }
}
