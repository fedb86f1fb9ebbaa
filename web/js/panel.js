// The panel of one chat's settings: system prompt, sampling, structured output, tools.
import { $, el, iconButton } from "./ui.js";
import { adaptersOf, EXAMPLE_SCHEMA, EXAMPLE_TOOL, numberOf, SAMPLING, schemaOf, strengthKey, toolsOf } from "./settings.js";

export class Panel {
    constructor(chats, closed) {
        this.chats = chats;
        this.closed = closed;
        this.unsaved = null;
        this.root = $("panel");
        this.root.addEventListener("keydown", (e) => {
            if (e.key === "Escape") { e.stopPropagation(); this.toggle(false); }
        });
    }

    get open() { return !this.root.hidden; }

    toggle(open = !this.open) {
        this.root.hidden = !open;
        $("settings").setAttribute("aria-expanded", String(open));
        document.body.classList.toggle("with-panel", open);
        if (open) {
            this.fill();
            this.root.querySelector("textarea, input, select").focus();
        } else {
            this.closed();
        }
    }

    set(key, value) {
        const { chat } = this.chats;
        if (value === null || value === "") delete chat.settings[key];
        else chat.settings[key] = value;
        if (this.unsaved !== chat) this.save();
        this.unsaved = chat;
        clearTimeout(this.saving);
        this.saving = setTimeout(() => this.save(), 300);
    }

    // Keeps what was set last, now: a page that goes away has no later. A chat in which nothing was said yet is not kept.
    save() {
        clearTimeout(this.saving);
        const chat = this.unsaved;
        this.unsaved = null;
        if (chat && this.chats.list.includes(chat)) this.chats.keep(chat);
    }

    fill() {
        const { settings } = this.chats.chat;
        this.root.replaceChildren(
            el("div.head", {}, el("h2", {}, "This chat"), iconButton("close", "Close the settings", () => this.toggle(false))),
            el("div.fields", {}, [
                this.text("system", "System prompt", 4, "Told to the model before everything else"),
                this.thinking(settings),
                ...this.adapters(settings),
                el("h3", {}, "Sampling"),
                el("p.note", {}, "An empty field takes the server's value, shown in grey."),
                el("div.grid", {}, SAMPLING.map((rule) => this.number(rule, settings))),
                this.text("stop", "Stop at", 2, "One text a line; \\n is a line break"),
                el("h3", {}, "Structured output"),
                this.format(settings),
                el("h3", {}, "Tools"),
                this.tools(settings),
                el("button", { type: "button", onclick: () => this.reset() }, "Reset all to the server's"),
            ]),
        );
    }

    reset() {
        const { chat } = this.chats;
        const { model } = chat.settings;
        chat.settings = model ? { model } : {};
        this.set("model", model ?? null);
        this.fill();
    }

    text(key, label, rows, placeholder) {
        return el("label.field", {}, el("span", {}, label), el("textarea", {
            rows, placeholder, value: this.chats.chat.settings[key] ?? "", "data-key": key,
            oninput: (e) => this.set(key, e.target.value),
        }));
    }

    number(rule, settings) {
        const defaults = this.chats.props.default_generation_settings?.params ?? {};
        const theirs = rule.start ?? defaults[rule.key] ?? (rule.key === "max_tokens" ? defaults.n_predict : undefined);
        const wrong = el("small.wrong", { id: encodeURIComponent(`wrong-${rule.key}`) });
        const input = el("input", {
            inputMode: "decimal", "data-key": rule.key, value: settings[rule.key] ?? "", autocomplete: "off",
            placeholder: theirs === undefined || theirs === null || theirs < rule.min ? "" : String(Math.round(theirs * 1e4) / 1e4),
            "aria-describedby": wrong.id,
            oninput: () => {
                const r = numberOf(rule, input.value);
                wrong.textContent = r.wrong ?? "";
                input.setAttribute("aria-invalid", String(Boolean(r.wrong)));
                if (!r.wrong) this.set(rule.key, r.value);
                rule.said?.(r.value);
            },
        });
        return el("label.field", { title: rule.hint }, el("span", {}, rule.label), input, wrong);
    }

    // A slider for each adapter of the model, with a field for what lies beyond its ends.
    adapters(settings) {
        const model = this.chats.models.find((m) => m.id === this.chats.model);
        const all = model ? adaptersOf(model) : [];
        if (!all.length) return [];
        return [el("h3", {}, "Adapters"), ...all.map(({ name, start }) => {
            const key = strengthKey(model.id, name);
            const slider = el("input", {
                type: "range", min: 0, max: 2, step: 0.05, "aria-label": `Strength of ${name}`,
                oninput: () => {
                    const field = number.querySelector("input");
                    field.value = slider.value;
                    field.dispatchEvent(new Event("input"));
                },
            });
            const move = (value) => { slider.value = value ?? start; };
            const number = this.number({ key, label: name, start, min: -10, max: 10, hint: "0 is the model without it", said: move }, settings);
            move(settings[key]);
            return el("div.strength", {}, number, slider);
        })];
    }

    select(key, label, options, value, after) {
        return el("label.field", {}, el("span", {}, label), el("select", {
            "data-key": key,
            onchange: (e) => { this.set(key, e.target.value); after?.(e.target.value); },
        }, options.map(([v, text]) => el("option", { value: v, selected: v === value }, text))));
    }

    thinking(settings) {
        const caps = this.chats.props.chat_template_caps;
        if (caps?.supports_thinking_switch === false && !settings.thinking) return null;
        return this.select("thinking", "Thinking", [
            ["", "As the model does"], ["on", "Ask it to think"], ["off", "Ask it not to think"],
        ], settings.thinking ?? "");
    }

    format(settings) {
        const wrong = el("small.wrong", { role: "status" });
        const schema = el("textarea.code", {
            rows: 8, spellcheck: false, "data-key": "schema", value: settings.schema ?? "", placeholder: EXAMPLE_SCHEMA,
            oninput: () => { wrong.textContent = schemaOf(schema.value).wrong ?? ""; this.set("schema", schema.value); },
        });
        const box = el("div", { hidden: settings.format !== "schema" },
            el("label.field", {}, el("span", {}, "JSON schema"), schema), wrong,
            el("button", {
                type: "button",
                onclick: () => { schema.value = EXAMPLE_SCHEMA; wrong.textContent = ""; this.set("schema", EXAMPLE_SCHEMA); },
            }, "Put in an example"));
        return el("div", {}, this.select("format", "Answers are", [
            ["", "Text"], ["json", "Any JSON"], ["schema", "JSON by a schema"],
        ], settings.format ?? "", (v) => { box.hidden = v !== "schema"; }), box);
    }

    tools(settings) {
        const wrong = el("small.wrong", { role: "status" });
        const choice = el("div");
        const choices = () => {
            const { value } = toolsOf(field.value);
            const names = (value ?? []).map((t) => t.function.name);
            choice.replaceChildren(...(names.length ? [this.select("tool_choice", "The model", [
                ["", "may call a tool"], ["required", "must call a tool"], ["none", "calls none"],
                ...names.map((n) => [n, `must call ${n}`]),
            ], this.chats.chat.settings.tool_choice ?? "")] : []));
        };
        const field = el("textarea.code", {
            rows: 6, spellcheck: false, "data-key": "tools", value: settings.tools ?? "", placeholder: EXAMPLE_TOOL,
            oninput: () => {
                wrong.textContent = toolsOf(field.value).wrong ?? "";
                this.set("tools", field.value);
                choices();
            },
        });
        choices();
        return el("div", {},
            el("p.note", {}, "Where the model calls a tool, you see the call and write the result by hand."),
            el("label.field", {}, el("span", {}, "Functions, as JSON"), field), wrong,
            el("button", {
                type: "button",
                onclick: () => { field.value = EXAMPLE_TOOL; wrong.textContent = ""; this.set("tools", EXAMPLE_TOOL); choices(); },
            }, "Put in an example"),
            choice);
    }

    // What stands in the way of sending, or null.
    fault() {
        const { settings } = this.chats.chat;
        if (settings.format === "schema") {
            const { wrong } = schemaOf(settings.schema ?? "");
            if (wrong) return wrong;
        }
        return toolsOf(settings.tools ?? "").wrong ?? null;
    }
}
