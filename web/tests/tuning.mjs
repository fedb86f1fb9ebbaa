// Fine-tuning as the server has it, for tests without one: lines with "bad" are wrong, and a job goes as a test says.
export function tuning(mock) {
    const jobs = [];
    const streams = new Set();
    mock.props = { ...mock.props, fine_tuning: { on: true, models: ["weft-mini", "other"] } };
    let content = "";
    const PATH = "/v1/fine_tuning/jobs";
    Object.assign(mock.routes, {
        "POST /v1/files": ({ entry, json }) => { content = entry.body.content ?? ""; json(200, { id: "file-1" }); },
        "DELETE /v1/files/file-1": ({ json }) => json(200, { deleted: true }),
        "POST /v1/fine_tuning/plan": ({ json }) => {
            const wrong = content.split("\n").flatMap((l, i) => (l.includes("bad") ? [{ file: "pasted.jsonl", place: `line ${i + 1}`, line: i + 1, message: "is not JSON (expected value at column 1)" }] : []));
            if (wrong.length) { json(200, { problems: wrong, more_problems: false }); return; }
            json(200, {
                problems: [], steps: 30, tokens: 4800, seconds: 95, measured: true, validation: null,
                data: { examples: 20, summary: "20 examples, 480 tokens, 120 of them learnt, the longest has 31; read as prompt and completion" },
                batch: [1, 2].map((n) => ({ tokens: 24, learnt: 6, parts: [[`<|im_start|>user\nWho wove cloth ${n}?<|im_end|>\n<|im_start|>assistant\n`, false], ["The shuttle.<|im_end|>", true], ["\n", false]] })),
                memory: { weights: 9e6, adapters: 4e5, optimiser: 12e5, activations: 3e6, scratch: 8e6, layers: { whole: 3, halves: 2, inputs: 4 }, weights_shared: true, training: 126e5, taken: 3e7, available: 8e9, fits: true, message: "Answers go on while it trains; both are slower, since they share the device." },
            });
        },
        [`GET ${PATH}`]: ({ json }) => json(200, { object: "list", data: [...jobs].reverse(), has_more: false }),
        [`POST ${PATH}`]: ({ entry, json }) => {
            const id = `ftjob-${jobs.length + 1}`;
            const job = { id, status: "running", model: entry.body.model, user_provided_suffix: entry.body.suffix, fine_tuned_model: null, error: null, progress: { step: 0, steps: 30, train_loss: null, valid_loss: null, tokens_per_s: null, seconds_left: null, memory: null, saved_step: 0, validating: null, stopping: null } };
            jobs.push(job);
            const rows = [];
            const ask = (what, status) => { mock.routes[`POST ${PATH}/${id}/${what}`] = ({ json: say }) => { job.status = status; finish(); say(200, job); }; };
            const finish = () => { for (const s of streams) s.end("data: [DONE]\n\n"); streams.clear(); };
            ask("pause", "paused");
            ask("resume", "running");
            ask("cancel", "cancelled");
            mock.routes[`GET ${PATH}/${id}`] = ({ json: say }) => say(200, job);
            mock.routes[`GET ${PATH}/${id}/events`] = ({ entry: asked, res, json: say }) => {
                if (asked.query.get("stream") !== "true") { say(200, { object: "list", data: rows.map((r) => JSON.parse(r.slice(6))).reverse(), has_more: false }); return; }
                res.writeHead(200, { "content-type": "text/event-stream" });
                for (const row of rows) res.write(row);
                streams.add(res);
            };
            mock.step = (step, valid = null) => {
                const train = 3 * Math.exp(-step / 9) + 0.2 + 0.15 * Math.sin(step * 2.1);
                Object.assign(job.progress, { step, train_loss: train, valid_loss: valid ?? job.progress.valid_loss, tokens_per_s: 152.4, seconds_left: 3 * (30 - step), memory: 2e7, saved_step: step });
                const row = `data: ${JSON.stringify({ type: "metrics", data: { step, total_steps: 30, train_loss: train, valid_loss: valid } })}\n\n`;
                rows.push(row);
                for (const s of streams) s.write(row);
                if (step === 30) { job.status = "succeeded"; job.fine_tuned_model = `${job.model}+${job.user_provided_suffix}`; finish(); }
            };
            json(200, job);
        },
    });
    return jobs;
}

// Evaluations as the server has them: one that is begun stands at 12 questions until `done` is called.
export function exams(mock) {
    const all = [];
    const PATH = "/v1/evaluations";
    Object.assign(mock.routes, {
        [`GET ${PATH}`]: ({ json }) => json(200, { object: "list", data: [...all].reverse(), has_more: false, models: ["weft-mini", "weft-mini+cloth"] }),
        [`POST ${PATH}`]: ({ entry, json }) => {
            const { body } = entry;
            if (body.content === "bad") { json(400, { error: { message: "questions.jsonl: line 1: is not JSON (expected value)", code: "invalid_value" } }); return; }
            const one = { id: `eval-${all.length + 1}`, model: body.model, suite: { name: body.suite, filename: body.filename }, status: "running", answered: 12, questions: 100, scores: [], error: null };
            Object.defineProperty(one, "done", { value: () => {
                const score = (kind, part, total, share, low, high) => ({ kind, part, total, share, low, high });
                Object.assign(one, { status: "completed", answered: 100, scores: [
                    score("generation", "all", 50, 0.72, 0.583, 0.825), score("generation", "physics", 25, 0.64, 0.445, 0.798),
                    score("multiple choice", "all", 50, 0.9, 0.786, 0.957), score("multiple choice", "physics", 25, 0.88, 0.7, 0.958),
                ] });
            } });
            all.push(one);
            mock.routes[`POST ${PATH}/${one.id}/cancel`] = ({ json: say }) => { one.status = "cancelled"; say(200, one); };
            json(200, one);
        },
    });
    return all;
}
