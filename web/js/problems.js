// What went wrong, as sentences, each with ways out.
import { number } from "./ui.js";

// A list of all that a server knows is no help here.
const short = (text) => (text.length > 240 ? `${text.slice(0, text.lastIndexOf(" ", 240))} …` : text);

// {text, ways: [{label, run}]} of a message's problem. `on` are the page's actions.
export function explain(message, on) {
    const p = message.problem;
    const again = { label: "Try again", run: () => on.retry(message) };
    const goOn = { label: "Continue", run: () => on.resume(message) };
    const settings = { label: "Open the settings", run: on.settings };
    const id = p.requestId ? ` (request ${p.requestId})` : "";
    const part = message.content;
    switch (p.kind) {
    case "busy":
        return p.left === undefined
            ? { text: `${p.text} It was asked several times.`, ways: [again] }
            : { text: p.text, ways: [{ label: "Try now", run: () => on.hurry(message) }, { label: "Stop", run: on.stop }] };
    case "gone":
        return {
            text: "The server does not answer. If it was stopped, start it again with “weft serve”; this page looks for it every few seconds.",
            ways: part ? [goOn, again] : [again],
        };
    case "cut":
        return { text: `${p.text} What came is kept.`, ways: part ? [goOn, { label: "Regenerate", run: () => on.regenerate(message) }] : [again] };
    case "reload":
        return { text: `${p.text} What came is kept.`, ways: part ? [goOn, { label: "Regenerate", run: () => on.regenerate(message) }] : [again] };
    case "context":
        return {
            text: p.prompt && p.context
                ? `The chat has ${number(p.prompt)} tokens, and the model's context holds ${number(p.context)}.`
                : p.text,
            ways: [
                { label: "Leave out the oldest messages", run: () => on.shorten(message) },
                { label: "New chat", run: on.fresh },
            ],
        };
    case "key":
        return { text: "The server asks for a key, and this page has none that it takes.", ways: [{ label: "Enter the key", run: () => on.key(message) }] };
    case "model":
        return { text: p.text, ways: [{ label: "Ask a model that is there", run: () => on.refresh(message) }] };
    case "request":
        return { text: `The server did not take the request: ${short(p.text)}${p.param ? ` It is about “${p.param}”.` : ""}`, ways: [settings, again] };
    default:
        return { text: `${p.text}${id}`, ways: part ? [goOn, again] : [again] };
    }
}
