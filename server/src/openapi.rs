//! `/openapi.json`: every route and every field, as a document. A test compares it with the routes.

use serde_json::{Map, Value, json};

use crate::routes::PATHS;

/// Name, type and what it means.
type Field = (&'static str, &'static str, &'static str);

const DRAW: &[Field] = &[
    ("temperature", "number", "0 to 2; 0 takes the likeliest token"),
    ("top_p", "number", "0 to 1: the smallest set of tokens of this mass"),
    ("min_p", "number", "0 to 1: tokens of at least this part of the largest probability"),
    ("typical_p", "number", "0 to 1: the tokens nearest to the entropy, up to this mass"),
    ("top_k", "integer", "The k likeliest tokens; 0 for all"),
    ("presence_penalty", "number", "-2 to 2, for tokens that came"),
    ("frequency_penalty", "number", "-2 to 2, times how often they came"),
    ("repeat_penalty", "number", "Divides the logits of recent tokens; 1 does nothing"),
    ("repeat_last_n", "integer", "How many tokens are recent"),
    ("dry_multiplier", "number", "Against repetitions of sequences; 0 turns it off"),
    ("dry_base", "number", "Grows with the length of what repeats"),
    ("dry_allowed_length", "integer", "Repetitions that are allowed"),
    ("dry_penalty_last_n", "integer", "Tokens that are looked back on; 0 for all"),
    ("ignore_eos", "boolean", "Whether the answer goes on behind its end"),
    ("seed", "integer", "The same seed gives the same answer"),
    ("stop", "string or array", "Texts that end the answer and are no part of it"),
    ("stop_token_ids", "array", "Tokens that end the answer"),
    ("logit_bias", "object", "Token ids and what is added to their logits, -100 to 100; -100 forbids"),
    ("n", "integer", "Answers, 1 to 128"),
    (
        "lora",
        "array",
        "Adapters of the model, each {name, scale}, or with its place among them as id; one that is not listed has the \
         strength that the name of the model gives it",
    ),
];

const CHAT: &[Field] = &[
    ("messages", "array", "The conversation"),
    ("tools", "array", "Functions that may be called"),
    ("parallel_tool_calls", "boolean", "Whether there may be several calls"),
    ("tool_choice", "string or object", "none, auto, required, a function, or allowed_tools"),
    ("max_completion_tokens", "integer", "Tokens of an answer at most, thoughts included"),
    ("max_tokens", "integer", "The older name of max_completion_tokens"),
    ("logprobs", "boolean", "Whether log-probabilities are told"),
    ("top_logprobs", "integer", "0 to 20 of the likeliest tokens with each"),
    ("chat_template_kwargs", "object", "Variables of the template, such as enable_thinking"),
    ("reasoning_effort", "string", "none, minimal, low, medium, high, xhigh or max"),
    ("verbosity", "string", "low, medium or high, where the template reads it"),
    ("reasoning_format", "string", "none leaves thoughts in the content; auto and deepseek tell them apart"),
    ("thinking_budget", "integer", "Tokens after which a thought must end"),
    ("continue_final_message", "boolean", "Whether the last message is the beginning of the answer"),
    ("add_generation_prompt", "boolean", "False with continue_final_message alone"),
    ("modalities", "array", "text alone"),
    ("stream", "boolean", "Whether the answer comes as events"),
    ("stream_options", "object", "include_usage"),
    ("return_progress", "boolean", "Whether a stream tells how far the prompt is"),
];

const KEPT: &[Field] = &[(
    "resumable",
    "boolean",
    "Whether the stream's events are numbered and kept, to go on at /v1/streams/{id} of its answer's id",
)];

const FORM: &[Field] = &[
    (
        "response_format",
        "object",
        "text, json_object, json_schema, regex (\"regex\") or grammar (\"grammar\", \"syntax\" gbnf or lark)",
    ),
    ("json_schema", "object", "As response_format, for llama.cpp's clients"),
    ("grammar", "string", "A grammar in llama.cpp's notation (GBNF)"),
    ("guided_json", "object", "As response_format, for vLLM's clients"),
    ("guided_regex", "string", "As response_format, for vLLM's clients"),
    ("guided_choice", "array", "Texts, one of which is the answer"),
    ("structured_outputs", "object", "json, regex, choice or json_object, for vLLM's clients"),
];

const ANTHROPIC: &[Field] = &[
    ("max_tokens", "integer", "Tokens of the answer at most, thoughts included"),
    ("messages", "array", "The conversation; an answer goes on where its last message is the assistant's"),
    ("system", "string or array", "What sets the model's behaviour"),
    ("stop_sequences", "array", "Texts that end the answer and are no part of it"),
    (
        "thinking",
        "object",
        "enabled, disabled or adaptive; budget_tokens, below max_tokens, after which a thought must end",
    ),
    ("tools", "array", "Functions that may be called"),
    ("tool_choice", "object", "auto, any, tool or none; disable_parallel_tool_use"),
    ("output_format", "object", "A schema that the text is held to"),
    ("output_config", "object", "format: a schema that the text is held to"),
    ("stream", "boolean", "Whether the answer comes as events"),
];

const RESPONSES: &[Field] = &[
    (
        "input",
        "string or array",
        "What the user says, or items: message, reasoning, function_call, function_call_output",
    ),
    ("previous_response_id", "string", "The answer that this goes on from"),
    ("instructions", "string", "What sets the model's behaviour"),
    ("background", "boolean", "false alone"),
    ("metadata", "object", "Comes back with the answer"),
    ("tools", "array", "Functions that may be called"),
    ("tool_choice", "string or object", "none, auto, required, a function, or allowed_tools"),
    ("parallel_tool_calls", "boolean", "Whether there may be several calls"),
    ("text", "object", "format: text, json_object or json_schema"),
    ("max_output_tokens", "integer", "Tokens of the answer at most, thoughts included"),
    ("top_logprobs", "integer", "0 alone"),
    ("reasoning", "object", "effort"),
    ("include", "array", "reasoning.encrypted_content, which is not needed"),
    ("truncation", "string", "disabled alone"),
    ("store", "boolean", "Whether the answer is kept [true]"),
    ("stream", "boolean", "Whether the answer comes as events"),
    ("stream_options", "object", "include_obfuscation: false"),
];

const OLLAMA: &[Field] = &[
    ("name", "string", "The older name of model"),
    ("format", "string or object", "\"json\", or a schema that the answer is held to"),
    ("options", "object", "num_predict, num_ctx and how tokens are drawn, as for a chat of OpenAI's clients"),
    ("logprobs", "boolean", "false alone"),
    ("top_logprobs", "integer", "0 alone"),
    ("think", "boolean or string", "Whether the model thinks first"),
    ("truncate", "boolean", "Nothing is cut in any case"),
    (
        "keep_alive",
        "string or number",
        "0, without messages, closes a model of --models; else it changes nothing",
    ),
    ("stream", "boolean", "Whether the answer comes as lines [true]"),
];

const OLLAMA_CHAT: &[Field] = &[
    ("messages", "array", "The conversation"),
    ("tools", "array", "Functions that may be called"),
    ("parallel_tool_calls", "boolean", "Whether there may be several calls"),
    ("tool_choice", "string or object", "none, auto, required, a function, or allowed_tools"),
];

const OLLAMA_GENERATE: &[Field] = &[
    ("prompt", "string", "What the user says; with raw, the text to go on with"),
    ("system", "string", "What sets the model's behaviour"),
    ("raw", "boolean", "Whether the template is left out"),
];

const COMPLETION: &[Field] = &[
    ("prompt", "string or array", "A text or token ids, or an array of either"),
    ("max_tokens", "integer", "Tokens of an answer at most [16]; with echo it may be 0"),
    (
        "logprobs",
        "integer",
        "0 to 5 of the likeliest tokens with each; with echo, with each of the prompt as well",
    ),
    ("best_of", "integer", "What n is"),
    ("echo", "boolean", "Whether the prompt begins the answer"),
    ("stream", "boolean", "Whether the answer comes as events"),
    ("stream_options", "object", "include_usage"),
];

const TUNING: &[Field] = &[
    ("training_file", "string", "The id of a file of /v1/files"),
    ("validation_file", "string", "As training_file, to measure on"),
    ("suffix", "string", "The name of what comes of it, behind the model's and a '+'"),
    ("seed", "integer", "The same seed gives the same adapter [42]"),
    ("method", "object", "type: supervised; supervised: hyperparameters"),
    (
        "hyperparameters",
        "object",
        "n_epochs or n_steps, batch_size, learning_rate or learning_rate_multiplier, rank, alpha, targets, rslora, \
         dropout, weight_decay, clip, schedule, warmup, accumulate, context, pack, loss, overlong, checkpointing or \
         memory (bytes that training may take in all), validation_share, save_every, eval_every",
    ),
];

const MODEL: Field = ("model", "string", "The name of the model");

/// What a POST takes, and which fields it must have.
pub(crate) fn fields(path: &str) -> (Vec<Field>, &'static [&'static str]) {
    let with = |parts: &[&[Field]]| [&[MODEL][..], &parts.concat()[..]].concat();
    match path {
        "/v1/chat/completions" => (with(&[CHAT, KEPT, FORM, DRAW]), &["model", "messages"]),
        "/v1/completions" => (with(&[COMPLETION, KEPT, FORM, DRAW]), &["model", "prompt"]),
        "/v1/responses" => (with(&[RESPONSES, KEPT, DRAW]), &["model", "input"]),
        "/v1/messages" => (with(&[ANTHROPIC, KEPT, DRAW]), &["model", "max_tokens", "messages"]),
        "/v1/messages/count_tokens" => (with(&[ANTHROPIC, DRAW]), &["model", "messages"]),
        "/api/chat" => (with(&[OLLAMA_CHAT, OLLAMA]), &["model"]),
        "/api/generate" => (with(&[OLLAMA_GENERATE, OLLAMA]), &["model"]),
        "/api/show" => {
            let own: &[Field] = &[
                ("name", "string", "The older name of model"),
                ("verbose", "boolean", "Nothing more is told"),
            ];
            (with(&[own]), &["model"])
        }
        "/api/embed" => {
            let own: &[Field] = &[
                ("name", "string", "The older name of model"),
                ("input", "string or array", "A text, or several"),
                ("dimensions", "integer", "The first values alone, of length 1 again"),
                ("truncate", "boolean", "Nothing is cut in any case"),
                ("keep_alive", "string or number", "It changes nothing"),
                ("options", "object", "num_ctx"),
            ];
            (with(&[own]), &["model", "input"])
        }
        "/api/embeddings" => {
            let own: &[Field] = &[
                ("name", "string", "The older name of model"),
                ("prompt", "string", "A text"),
                ("keep_alive", "string or number", "It changes nothing"),
                ("options", "object", "num_ctx"),
            ];
            (with(&[own]), &["model", "prompt"])
        }
        "/v1/embeddings" => {
            let own: &[Field] = &[
                ("input", "string or array", "A text or token ids, or an array of either"),
                ("encoding_format", "string", "float or base64"),
                ("dimensions", "integer", "The first values alone, of length 1 again"),
            ];
            (with(&[own]), &["model", "input"])
        }
        "/v1/rerank" => {
            let own: &[Field] = &[
                ("query", "string", "What the documents should answer"),
                ("documents", "array", "Texts"),
                ("top_n", "integer", "The best alone"),
                ("return_documents", "boolean", "Whether results hold their texts"),
            ];
            (with(&[own]), &["model", "query", "documents"])
        }
        "/tokenize" => {
            let own: &[Field] = &[
                ("content", "string", "The text"),
                ("add_special", "boolean", "Whether the tokens that begin and end a text are added"),
                ("parse_special", "boolean", "Whether names of control tokens are read as such"),
                ("with_pieces", "boolean", "Whether the text of each token is told"),
            ];
            (with(&[own]), &["content"])
        }
        "/detokenize" => (with(&[&[("tokens", "array", "Token ids")]]), &["tokens"]),
        "/apply-template" => {
            let own: &[Field] = &[
                ("messages", "array", "The conversation"),
                ("tools", "array", "Functions that may be called"),
                ("parallel_tool_calls", "boolean", "As for a chat"),
                ("tool_choice", "string or object", "As for a chat"),
                ("chat_template_kwargs", "object", "Variables of the template"),
                ("reasoning_effort", "string", "As for a chat"),
                ("verbosity", "string", "As for a chat"),
                (
                    "continue_final_message",
                    "boolean",
                    "Whether the last message is the beginning of the answer",
                ),
                ("add_generation_prompt", "boolean", "False with continue_final_message alone"),
            ];
            (with(&[own]), &["messages"])
        }
        _ => fields_of_keeping(path),
    }
}

/// The same for what keeps something, or goes on by itself.
fn fields_of_keeping(path: &str) -> (Vec<Field>, &'static [&'static str]) {
    let with = |parts: &[&[Field]]| [&[MODEL][..], &parts.concat()[..]].concat();
    match path {
        "/v1/pulls" => {
            (vec![("model", "string", "ORG/REPO:QUANT or ORG/REPO/FILE.gguf of the hub")], &["model"])
        }
        "/api/pull" => {
            let own: &[Field] = &[
                ("name", "string", "The older name of model"),
                ("insecure", "boolean", "false alone"),
                ("stream", "boolean", "Whether progress comes as lines [true]"),
            ];
            (with(&[own]), &["model"])
        }
        "/api/delete" => (with(&[&[("name", "string", "The older name of model")]]), &["model"]),
        "/v1/documents" => {
            let own: &[Field] = &[
                ("name", "string", "The name of the file; one of this name that is there is replaced"),
                ("content", "string", "The file in base64: text in UTF-8 or UTF-16, Markdown or PDF"),
                ("text", "string", "The text of the file, in place of content"),
            ];
            (own.to_vec(), &["name"])
        }
        "/v1/documents/search" => {
            let own: &[Field] = &[
                ("query", "string", "What the passages should answer"),
                ("top_n", "integer", "Passages at most, 1 to 100 [5]"),
                ("rerank", "boolean", "Whether the reranker orders them [true where there is one]"),
            ];
            (own.to_vec(), &["query"])
        }
        "/v1/machines" => {
            let own: &[Field] = &[
                ("code", "string", "What the other machine showed, as CODE@HOST or CODE@HOST:PORT"),
                ("name", "string", "What it is called here, in place of its own name"),
            ];
            (own.to_vec(), &["code"])
        }
        "/v1/evaluations" => {
            let own: &[Field] = &[
                ("suite", "string", "curriculum or file"),
                ("domains", "array", "Those of the curriculum's that are asked [the core ones]"),
                ("limit", "integer", "Questions of each kind [100]"),
                ("seed", "integer", "Draws the questions [1]"),
                ("max_tokens", "integer", "Tokens of an answer at most [512]"),
                ("content", "string", "Questions: lines of JSON, an array of records, CSV or TSV"),
                ("filename", "string", "What messages call them; its ending says what they are"),
                ("columns", "string", "Which column holds what, as weft eval --columns"),
                ("mode", "string", "generate, or letter: the likeliest letter counts"),
            ];
            (with(&[own]), &["model"])
        }
        "/v1/memory" => {
            let own: &[Field] = &[
                ("context", "integer", "Tokens of an answer, its prompt among them [the server's]"),
                ("slots", "integer", "Answers at a time [the server's]"),
                ("cache_type", "string", "How the cache is stored: f32, f16, q8_0 or q4_0 [the server's]"),
            ];
            (with(&[own]), &["model"])
        }
        "/v1/sizes" => (with(&[]), &["model"]),
        "/v1/tasks" => {
            let own: &[Field] = &[
                ("kind", "string", "quantize, merge, kernels, roofline, tune or bench"),
                ("type", "string", "quantize: the mixture, such as Q4_K_M"),
                ("name", "string", "quantize: what the new model is called"),
                ("requantize", "boolean", "quantize: whether the model may be quantised already [false]"),
                ("job", "string", "merge: the job of fine-tuning whose adapter is added to its model"),
                (
                    "thorough",
                    "boolean",
                    "kernels, roofline and tune: everything, and not a part of it [false]",
                ),
            ];
            (with(&[own]), &["kind"])
        }
        "/v1/files" => {
            let own: &[Field] = &[
                ("purpose", "string", "fine-tune alone"),
                ("filename", "string", "What messages call it; its ending says what it is"),
                ("content", "string", "Lines of JSON, an array of records, or plain text"),
            ];
            (own.to_vec(), &["purpose", "filename", "content"])
        }
        "/v1/fine_tuning/jobs" => (with(&[TUNING]), &["model", "training_file"]),
        "/v1/fine_tuning/plan" => {
            let own: &[Field] = &[("measure", "boolean", "Whether a step is timed on the device")];
            (with(&[TUNING, own]), &["model", "training_file"])
        }
        _ => (Vec::new(), &[]),
    }
}

fn about(path: &str) -> &'static str {
    match path {
        "/" | "/{*file}" => "A page to chat with",
        "/health" | "/v1/health" => "Whether the server answers; needs no key",
        "/v1/models" => "The models",
        "/v1/models/{*id}" => "A model; DELETE removes one that was pulled",
        "/v1/pulls" => "Models that are being pulled; POST starts a pull, where the server allows it",
        "/v1/pulls/{*id}" => {
            "Stops a pull, which a POST of the same goes on with; once more drops what came of it"
        }
        "/api/delete" => "Removes a model that was pulled, for Ollama's clients",
        "/api/pull" => "Pulls a model, for Ollama's clients",
        "/v1/chat/completions" => "Answers a conversation",
        "/v1/completions" => "Goes on with a text",
        "/api/chat" => "Answers a conversation, for Ollama's clients",
        "/api/generate" => "Answers a prompt, or goes on with a text, for Ollama's clients",
        "/api/embed" => "Turns texts into vectors, for Ollama's clients",
        "/api/embeddings" => "Turns a text into a vector, for Ollama's older clients",
        "/api/ps" => "The models that are loaded, for Ollama's clients",
        "/api/show" => "What is known of a model, for Ollama's clients",
        "/api/tags" => "The models, for Ollama's clients",
        "/api/version" => "The version of this server",
        "/v1/responses" => "Answers a conversation, and keeps it",
        "/v1/responses/{*id}" => "An answer that is kept; with /input_items behind it, what led to it",
        "/v1/streams/{*id}" => {
            "Goes on with a resumable stream behind the event of Last-Event-ID; DELETE ends it"
        }
        "/v1/messages" => "Answers a conversation, for Anthropic's clients",
        "/v1/messages/count_tokens" => "Counts the tokens of a conversation",
        "/v1/embeddings" => "Turns texts into vectors",
        "/v1/rerank" => "Orders documents by how well they answer a query",
        "/v1/evaluations" => "Asks a model questions and scores its answers",
        "/v1/evaluations/{id}" => "How far an evaluation is, and what came of it",
        "/v1/evaluations/{id}/cancel" => "Ends an evaluation",
        "/v1/memory" => "The memory that a model would take",
        "/v1/sizes" => "How large a model would be in each type",
        "/v1/tasks" => "Work on models and the device, one piece at a time; POST asks for some",
        "/v1/tasks/{id}" => "How far a piece of work is, and what came of it",
        "/v1/tasks/{id}/cancel" => "Ends a piece of work",
        "/v1/files" => "Data for fine-tuning, kept under an id",
        "/v1/files/{id}" => "What is known of a file",
        "/v1/files/{id}/content" => "What a file holds",
        "/v1/fine_tuning/plan" => "What a run would do and take, with what is wrong with its data",
        "/v1/fine_tuning/jobs" => "Trains an adapter on a model",
        "/v1/fine_tuning/jobs/{id}" => "How far a job is",
        "/v1/fine_tuning/jobs/{id}/cancel" => "Ends a job",
        "/v1/fine_tuning/jobs/{id}/events" => "What happened, as a list or with stream=true as it happens",
        "/v1/fine_tuning/jobs/{id}/pause" => "Writes a job down and frees its memory",
        "/v1/fine_tuning/jobs/{id}/result/{file}" => {
            "A file that came of a job: adapter.gguf, adapter_model.safetensors, adapter_config.json, metrics.jsonl, \
             loss.svg, and merged.gguf once a task made it"
        }
        "/v1/fine_tuning/jobs/{id}/resume" => "Goes on with a job from its checkpoint",
        "/v1/machines" => "Other machines that are paired; a POST adds the one that showed a code",
        "/v1/machines/{*id}" => "Forgets a machine",
        "/v1/pair" => "Makes a code, with which one other machine may be paired with this one",
        "/v1/documents" => "The documents that are kept, and what is on its way; or keeps one more",
        "/v1/documents/search" => "The passages of documents that answer a query",
        "/v1/documents/{*id}" => "A document, which is removed",
        "/metrics" => "Counters for Prometheus",
        "/props" => "Defaults, template and slots",
        "/slots" => "What each slot does",
        "/tokenize" => "A text as tokens",
        "/detokenize" => "Tokens as a text",
        "/apply-template" => "A conversation as the model reads it",
        "/openapi.json" => "This document",
        _ => "",
    }
}

fn schema(kind: &str) -> Value {
    match kind {
        "string or array" => json!({ "oneOf": [{ "type": "string" }, { "type": "array" }] }),
        "string or object" => json!({ "oneOf": [{ "type": "string" }, { "type": "object" }] }),
        "boolean or string" => json!({ "oneOf": [{ "type": "boolean" }, { "type": "string" }] }),
        "string or number" => json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        kind => json!({ "type": kind }),
    }
}

fn operation(path: &str, method: &str) -> Value {
    let error =
        json!({ "description": "What is wrong: {\"error\": {\"message\", \"type\", \"param\", \"code\"}}" });
    let mut operation = json!({
        "summary": about(path),
        "responses": { "200": { "description": "The answer" }, "4XX": error, "5XX": error },
    });
    if method == "POST" || path == "/api/delete" {
        let (fields, required) = fields(path);
        let mut properties = Map::new();
        for (name, kind, about) in fields {
            let mut property = schema(kind);
            property["description"] = about.into();
            properties.insert(name.into(), property);
        }
        let body = json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties });
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": body } } });
    }
    let names: Vec<&str> = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| name.trim_start_matches('*'))
        .collect();
    let parameter =
        |name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } });
    if !names.is_empty() {
        operation["parameters"] = names.into_iter().map(parameter).collect();
    }
    operation
}

/// The document.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for (path, methods) in PATHS {
        let operations: Map<String, Value> =
            methods.iter().map(|m| (m.to_lowercase(), operation(path, m))).collect();
        paths.insert(path.replace("{*", "{"), operations.into());
    }
    let key = json!({ "type": "http", "scheme": "bearer" });
    json!({
        "openapi": "3.1.0",
        "info": { "title": "weft serve", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "securitySchemes": { "key": key } },
        "security": [{}, { "key": [] }],
    })
}

#[cfg(test)]
mod tests {
    use super::{about, document};
    use crate::routes::PATHS;

    #[test]
    fn every_route_is_explained() {
        for (path, _) in PATHS {
            assert!(!about(path).is_empty(), "{path}");
        }
        assert_eq!(document()["paths"].as_object().map(|p| p.len()), Some(PATHS.len()));
    }
}
