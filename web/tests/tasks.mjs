// Work as the server has it, for tests without one: a piece that is begun stands at a third until `done` is called.
const MIB = 1 << 20;
const SIZES = [["Q2_K", 3.1, 3.4], ["Q3_K_M", 3.8, 4.1], ["IQ4_XS", 4.1, 4.5], ["Q4_K_M", 4.7, 5.0], ["Q5_K_M", 5.4, 5.8], ["Q6_K", 6.2, 6.6], ["Q8_0", 8.0, 8.5], ["F16", 15.1, 16], ["F32", 30.2, 32]];
const RESULTS = {
    quantize: () => ({ bytes_before: 15.1 * MIB, bytes: 4.7 * MIB }),
    kernels: () => ({ passed: 512, failed: 0, unsupported: 40, ops: 61, failures: [] }),
    tune: () => ({ faster: 1, not_measured: 2, rows: [
        { op: "matvec", type: "q4_k", shape: "6144 x 2560", default_us: 1830.2, best_us: 1422.9, gains: true },
        { op: "attention_decode", type: "f16", shape: "32 x 128: 1 on 256", default_us: 400, best_us: 399, gains: false }] }),
    bench: () => ({ rows: [{ n_prompt: 512, n_gen: 0, avg_ts: 1204.33, stddev_ts: 8.21, of_copy: 0.021, of_matrix: 0.33 }, { n_prompt: 0, n_gen: 128, avg_ts: 152.1, stddev_ts: 1.25, of_copy: 0.42, of_matrix: 0.02 }] }),
    roofline: () => ({ copy_bytes_per_s: 9.2e9, matrix_flops_per_s: 7.1e10, fastest: "f16 tiled", unsupported: 3, rows: [
        ["matmul", "matvec", "q4_k", 0.55, 4.8e9], ["matmul", "matvec", "q8_0", 0.6, 3.9e9], ["matmul", "matvec", "f16", 0.8, 3.1e9], ["matmul", "tiled", "q4_k", 0.02, 5.2e10], ["matmul", "tiled", "f16", 0.05, 6.9e10],
        ["attention", "decode", "f16", 0.4, 2.2e9], ["attention", "tiled", "f16", 0.03, 2.4e10], ["rms_norm", "plain", "f32", 0.7, 1.5e9], ["rope", "plain", "f32", 0.5, 9e8], ["add", "plain", "f32", 0.9, 6e8],
    ].map(([op, variant, type, of, flops]) => ({ op, variant, type, shape: "2560 x 9728 x 1", seconds: 0.0012, flops_per_s: flops, bytes_per_s: of * 9.2e9, of_copy: of, of_matrix: flops / 7.1e10 })) }),
};

export function tasks(mock, kinds = ["kernels", "roofline", "tune", "bench", "quantize", "merge"]) {
    const all = [];
    const PATH = "/v1/tasks";
    mock.props = { ...mock.props, tasks: { kinds, models: ["weft-mini", "qwen3-0.6b-f16"] } };
    Object.assign(mock.routes, {
        "POST /v1/memory": ({ entry: { body }, json }) => {
            const [context, slots] = [body.context ?? 4096, body.slots ?? 4];
            if (slots > 200) { json(400, { error: { message: "a cache of this many positions does not fit the device's buffers", code: "no_plan" } }); return; }
            const per = { f32: 224, f16: 112, q8_0: 60, q4_0: 32 }[body.cache_type ?? "f16"];
            const cache = context * slots * per * 1024;
            const total = 1.2e9 + cache + 2.2e8;
            json(200, { model: body.model, context, slots, trained: 32768, weights: 1.2e9, cache, activations: 2e8, state: 2e7, total, device: "llvmpipe", available: 16e9, taken: 3e7, open: body.model === "weft-mini", fits: total < 15.97e9 });
        },
        "POST /v1/sizes": ({ entry: { body }, json }) => json(200, {
            model: body.model, name: "qwen3-0.6b", bytes: 15.1 * MIB, type: "F16", quantised: body.model === "weft-mini",
            types: [{ type: "IQ1_S", bytes: 2.2 * MIB, bits: 2.1, needs_importance: true }, ...SIZES.map(([type, mib, bits]) => ({ type, bytes: mib * MIB, bits, needs_importance: false }))],
        }),
        [`GET ${PATH}`]: ({ json }) => json(200, { object: "list", data: [...all].reverse(), has_more: false, kinds, models: mock.props.tasks.models }),
        [`POST ${PATH}`]: ({ entry: { body }, json }) => {
            if (body.name === "taken") { json(400, { error: { message: "there is a \"taken\" already; give another name", code: "invalid_value", param: "name" } }); return; }
            const one = { object: "task", id: `task-${all.length + 1}`, status: "running", done: 40, of: 120, now: body.kind === "quantize" ? "blk.7.ffn_up.weight" : "matmul q4_k", result: null, error: null, ...body };
            Object.defineProperty(one, "finish", { value: (more = {}) => Object.assign(one, { status: "completed", done: 120, now: "", result: RESULTS[one.kind]?.() ?? {} }, more) });
            all.push(one);
            mock.routes[`GET ${PATH}/${one.id}`] = ({ json: say }) => say(200, one);
            mock.routes[`POST ${PATH}/${one.id}/cancel`] = ({ json: say }) => { one.status = "cancelled"; say(200, one); };
            json(200, one);
        },
    });
    return all;
}
