//! The cases of the JSON Schema test suite (MIT, in `suite.json` with its licence beside it) for draft 2020-12.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Dice, takes, tokenizer, validate, write};
use crate::grammar::{Grammars, Source};

/// Groups of cases whose schemas are enforced, and those that are refused, by file of the suite.
const TABLE: &[(&str, usize, usize)] = &[
    ("additionalProperties", 7, 2),
    ("allOf", 10, 2),
    ("anyOf", 7, 1),
    ("boolean_schema", 1, 1),
    ("const", 14, 1),
    ("contains", 0, 7),
    ("default", 3, 0),
    ("defs", 0, 1),
    ("dependentRequired", 0, 4),
    ("enum", 14, 0),
    ("exclusiveMaximum", 1, 0),
    ("exclusiveMinimum", 1, 0),
    ("format-date", 1, 0),
    ("format-date-time", 1, 0),
    ("format-duration", 1, 0),
    ("format-email", 1, 0),
    ("format-hostname", 1, 0),
    ("format-ipv4", 1, 0),
    ("format-ipv6", 1, 0),
    ("format-time", 1, 0),
    ("format-uri", 1, 0),
    ("format-uuid", 1, 0),
    ("if-then-else", 0, 10),
    ("infinite-loop-detection", 1, 0),
    ("items", 10, 0),
    ("maxItems", 2, 0),
    ("maxLength", 2, 0),
    ("maxProperties", 3, 0),
    ("maximum", 2, 0),
    ("minItems", 2, 0),
    ("minLength", 2, 0),
    ("minProperties", 2, 0),
    ("minimum", 2, 0),
    ("multipleOf", 4, 1),
    ("not", 0, 9),
    ("oneOf", 2, 9),
    ("pattern", 2, 0),
    ("patternProperties", 2, 3),
    ("prefixItems", 4, 0),
    ("properties", 6, 0),
    ("propertyNames", 0, 3),
    ("ref", 18, 17),
    ("required", 5, 0),
    ("type", 11, 0),
    ("uniqueItems", 3, 3),
];

#[test]
fn every_schema_of_the_suite_is_enforced_or_refused() {
    let suite: BTreeMap<String, Value> = serde_json::from_str(include_str!("suite.json")).expect("JSON");
    let t = tokenizer(&[], &[]);
    let g = Grammars::new(&t).expect("grammars");
    let mut table = Vec::new();
    let (mut wrong, mut narrow, mut cases, mut written) = (Vec::new(), Vec::new(), 0, 0);
    for (file, groups) in &suite {
        let (mut enforced, mut refused) = (0, 0);
        for group in groups.as_array().expect("groups") {
            let (schema, about) = (&group["schema"], format!("{file}: {}", group["description"]));
            let source = Source::JsonSchema(schema.clone());
            if let Err(e) = g.compile(&source) {
                // The sentence names a keyword or a place of the schema.
                assert!(e.keyword.is_some() || e.path.is_some(), "{about}: {e}");
                refused += 1;
                continue;
            }
            enforced += 1;
            for case in group["tests"].as_array().expect("tests") {
                let (data, valid) = (&case["data"], case["valid"] == true);
                cases += 1;
                if !file.starts_with("format-") && validate::is_valid(schema, data) != valid {
                    wrong.push(format!("the validator is wrong about {data} in {about}"));
                }
                let mut mask = g.mask(&source, None).expect("a mask");
                match (takes(&mut *mask, &t, &data.to_string()), valid) {
                    (true, false) => wrong.push(format!("{data} may be written, {about} {schema}")),
                    (false, true) => narrow.push(format!("{data}, {about}")),
                    _ => {}
                }
            }
            for seed in 0..8 {
                let mut mask = g.mask(&source, None).expect("a mask");
                let Some(text) = write(&mut *mask, &t, &mut Dice(seed), 400) else { continue };
                written += 1;
                let value: Value =
                    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?} {about}"));
                if !validate::is_valid(schema, &value) {
                    wrong.push(format!("{text} was written, {about} {schema}"));
                }
            }
        }
        table.push((file.as_str(), enforced, refused));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Valid values that cannot be written: properties in another order than the schema's, 1.0 for 1, rare forms of formats.
    assert!(narrow.len() <= 29, "{narrow:#?}");
    assert!(cases > 700 && written > 1000, "{cases} cases, {written} texts");
    assert_eq!(table, TABLE);
}
