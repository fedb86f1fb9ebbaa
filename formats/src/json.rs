//! JSON whose objects have no key twice: of two only one would be read, and nobody would be told which.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A value in which no key stands twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Strict(pub Value);

/// Reads one value.
///
/// # Errors
/// What is no JSON, and a key that stands twice.
pub fn strict(bytes: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(bytes).map(|Strict(value)| value)
}

struct Reader;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Strict, D::Error> {
        from.deserialize_any(Reader).map(Strict)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(value)) = seq.next_element()? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                let shown: String = key.chars().take(60).collect();
                return Err(A::Error::custom(format_args!("the key {shown:?} stands twice in an object")));
            }
            let Strict(value) = map.next_value()?;
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::strict;

    #[test]
    fn a_key_that_stands_twice_is_told() {
        let text = r#"{"a": [1, -2, 3.5, "x\n", null, true, {"b": {}}], "c": 18446744073709551615}"#;
        assert_eq!(
            strict(text.as_bytes()).expect("JSON"),
            json!({ "a": [1, -2, 3.5, "x\n", null, true, { "b": {} }], "c": u64::MAX })
        );
        let twice = strict(br#"[{"a": {"top_k": 1, "top_k": 2}}]"#).expect_err("twice").to_string();
        assert_eq!(twice, "the key \"top_k\" stands twice in an object at line 1 column 27");
        for broken in ["", "{", "[1,]", "{\"a\"}", "nul", "1 2", "{\"a\": 1e999}"] {
            assert!(strict(broken.as_bytes()).is_err(), "{broken}");
        }
        assert!(strict("[".repeat(4096).as_bytes()).is_err());
    }
}
