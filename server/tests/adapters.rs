//! Adapters by the name of the model, and by the field `lora`.

use serde_json::{Value, json};

use crate::support::{Engine, Server};

const ADAPTERS: Engine = Engine {
    slots: 4,
    step: std::time::Duration::ZERO,
    lost_after: None,
    template: None,
    vectors: None,
    name: "fake",
    adapters: &[("medical", 1.0), ("brief", 0.5)],
    documents: false,
};

fn ask(server: &Server, model: &str, lora: Value) -> String {
    let body = json!({ "model": model, "prompt": "Once", "max_tokens": 12, "temperature": 0, "lora": lora });
    let reply = server.post("/v1/completions", &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    let told = reply.json();
    assert_eq!(told["model"], model);
    told["choices"][0]["text"].as_str().expect("a text").to_owned()
}

#[test]
fn names_and_the_field_say_the_same() {
    let server = Server::start(Default::default(), ADAPTERS);
    let plain = ask(&server, "fake", Value::Null);
    for (model, lora) in [
        ("fake+medical", json!([{ "name": "medical" }])),
        ("fake+medical:0.25", json!([{ "name": "medical", "scale": 0.25 }])),
        ("fake+brief", json!([{ "id": 1, "scale": 0.5 }])),
        ("fake+medical+brief:2", json!([{ "name": "brief", "scale": 2 }, { "id": 0 }])),
    ] {
        let named = ask(&server, model, Value::Null);
        assert_eq!(named, ask(&server, "fake", lora), "{model}");
        assert_ne!(named, plain, "{model}");
    }
    // A strength of 0 is none, and the field goes before the name.
    assert_eq!(ask(&server, "fake+medical:0", Value::Null), plain);
    assert_eq!(ask(&server, "fake+medical", json!([{ "name": "medical", "scale": 0 }])), plain);
    let strong = ask(&server, "fake+medical", json!([{ "name": "medical", "scale": 3 }]));
    assert_eq!(strong, ask(&server, "fake+medical:3", Value::Null));
    let names = |list: &Value| -> Vec<String> {
        let id = |m: &Value| m["id"].as_str().expect("a name").to_owned();
        list["data"].as_array().expect("models").iter().map(id).collect()
    };
    let list = server.get("/v1/models").json();
    assert_eq!(names(&list), ["fake", "fake+medical", "fake+brief"]);
    assert_eq!(list["data"][0]["meta"]["adapters"][1], json!({ "name": "brief", "scale": 0.5 }));
    // They are one engine, which is counted once.
    let metrics = server.get("/metrics").body;
    assert_eq!(metrics.matches("\nweft_requests_finished_total{").count(), 1, "{metrics}");
}

#[test]
fn what_is_no_adapter_or_strength_is_refused_by_name() {
    let server = Server::start(Default::default(), ADAPTERS);
    let refused = |model: &str, lora: Value| {
        let body = json!({ "model": model, "prompt": "Once", "max_tokens": 2, "lora": lora });
        let reply = server.post("/v1/completions", &body);
        (reply.status, reply.line().unwrap_or_default())
    };
    for (model, lora, status, said) in [
        ("fake+legal", json!(null), 404, "no adapter \"legal\" of \"fake\"; known: medical, brief"),
        ("fake+medical:much", json!(null), 400, "\"medical\" in \"model\" must be a number, not \"much\""),
        ("fake+medical:nan", json!(null), 400, "must be a number"),
        ("fake+", json!(null), 404, "no adapter \"\""),
        ("other+medical", json!(null), 404, "known: fake, fake+medical, fake+brief"),
        (
            "fake",
            json!([{ "name": "legal" }]),
            400,
            "\"lora[0]\" names no adapter of \"fake\"; known: medical",
        ),
        ("fake", json!([{ "id": 2 }]), 400, "names no adapter"),
        ("fake", json!([{ "scale": 1 }]), 400, "must have a \"name\""),
        ("fake", json!([{ "name": "brief", "scale": "x" }]), 400, "\"lora[0].scale\""),
        ("fake", json!([{ "name": "brief", "weight": 1 }]), 400, "lora[0].weight"),
        ("fake", json!({ "name": "brief" }), 400, "\"lora\""),
    ] {
        let (got, line) = refused(model, lora);
        assert!(got == status && line.contains(said), "{model}: {got} {line}");
    }
    let none = Server::open();
    let body = json!({ "model": "fake+medical", "prompt": "Once", "max_tokens": 2 });
    let line = none.post("/v1/completions", &body).line().expect("an error");
    assert!(line.contains("\"fake\" has none here"), "{line}");
}
