//! The modules that an adapter_config.json puts its adapters on, by PEFT's own rules.
//!
//! PEFT makes adapters where the configuration says, of the ranks that it says, and leaves out whatever else lies in
//! the file. So a tensor that the configuration does not speak of would count here and not there.

use regex::Regex;
use serde_json::{Map, Value as Json};

/// What a configuration says of places and ranks.
pub(super) struct Sites {
    targets: Option<Names>,
    excluded: Option<Names>,
    layers: Option<Vec<u64>>,
    rank: Option<u64>,
    /// Expressions for modules of another rank.
    exceptions: Vec<(String, u64)>,
}

/// Names of modules: a list of their ends, or one expression for the whole name.
enum Names {
    List(Vec<String>),
    Expression(String),
}

/// A key whose value has no meaning there: its name, its value and what it should be.
pub(super) type Wrong = (&'static str, String, &'static str);

impl Names {
    fn read(config: &Map<String, Json>, key: &'static str) -> Result<Option<Names>, Wrong> {
        let wrong = |v: &Json| (key, v.to_string(), "names of modules or a regular expression");
        match config.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => Ok(Some(Names::Expression(text.clone()))),
            Some(v @ Json::Array(list)) => {
                let names: Option<Vec<String>> = list.iter().map(|n| Some(n.as_str()?.to_owned())).collect();
                Ok(Some(Names::List(names.ok_or_else(|| wrong(v))?)))
            }
            Some(other) => Err(wrong(other)),
        }
    }

    /// Whether a module is one of these; none where an expression is not one that is read here, as those of Python
    /// that look ahead.
    fn have(&self, module: &str) -> Option<bool> {
        match self {
            Names::List(names) => Some(names.iter().any(|n| ends_with(module, n))),
            Names::Expression(text) => Regex::new(&format!("^(?:{text})$")).ok().map(|e| e.is_match(module)),
        }
    }
}

fn ends_with(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

impl Sites {
    pub(super) fn read(config: &Map<String, Json>) -> Result<Sites, Wrong> {
        let whole = |key, v: &Json, least: u64| {
            let wrong = (key, v.to_string(), "a whole number above 0");
            v.as_u64().filter(|n| *n >= least).ok_or(wrong)
        };
        let rank = config.get("r").filter(|v| !v.is_null());
        let layers = match config.get("layers_to_transform").filter(|v| !v.is_null()) {
            None => None,
            Some(v) => {
                let list = v.as_array().map_or(std::slice::from_ref(v), Vec::as_slice);
                let numbers: Option<Vec<u64>> = list.iter().map(Json::as_u64).collect();
                let wrong = || ("layers_to_transform", v.to_string(), "numbers of layers");
                // PEFT takes an empty list for all layers.
                Some(numbers.ok_or_else(wrong)?).filter(|l| !l.is_empty())
            }
        };
        let exceptions = match config.get("rank_pattern") {
            None | Some(Json::Null) => Vec::new(),
            Some(Json::Object(map)) => {
                let one = |(name, r): (&String, &Json)| Ok((name.clone(), whole("rank_pattern", r, 1)?));
                map.iter().map(one).collect::<Result<_, _>>()?
            }
            Some(other) => return Err(("rank_pattern", other.to_string(), "an object of names and ranks")),
        };
        // This word stands for every matrix but the head.
        let all = |names: &Names| matches!(names, Names::Expression(text) if text == "all-linear");
        Ok(Sites {
            targets: Names::read(config, "target_modules")?.filter(|names| !all(names)),
            excluded: Names::read(config, "exclude_modules")?
                .filter(|names| !matches!(names, Names::List(l) if l.is_empty())),
            layers,
            rank: rank.map(|v| whole("r", v, 1)).transpose()?,
            exceptions,
        })
    }

    /// The key by which PEFT puts no adapter on a module.
    pub(super) fn leave_out(&self, module: &str) -> Option<&'static str> {
        if self.excluded.as_ref().and_then(|names| names.have(module)) == Some(true) {
            return Some("exclude_modules");
        }
        if self.targets.as_ref().and_then(|names| names.have(module)) == Some(false) {
            return Some("target_modules");
        }
        let named = |names: &Names| matches!(names, Names::List(list) if list.iter().any(|n| n == module));
        let layers = self.layers.as_ref().filter(|_| !self.targets.as_ref().is_some_and(named))?;
        let number = module.split('.').find_map(|part| part.parse().ok());
        (!number.is_some_and(|n| layers.contains(&n))).then_some("layers_to_transform")
    }

    /// The ranks that a module may have; none where nothing is said.
    pub(super) fn ranks(&self, module: &str) -> Vec<u64> {
        let named =
            |name: &str| Regex::new(&format!("^(?:.*\\.)?(?:{name})$")).is_ok_and(|e| e.is_match(module));
        let found: Vec<u64> = self.exceptions.iter().filter(|(n, _)| named(n)).map(|(_, r)| *r).collect();
        if found.is_empty() { self.rank.into_iter().collect() } else { found }
    }
}
