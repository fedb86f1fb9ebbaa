#!/usr/bin/env python3
"""Writes formats/tests/data/chat/expected.json: what transformers' apply_chat_template gives for
a few conversations, for our own template and for the published ones in shared/fixtures.

    pip install jinja2==3.1.6
    python tests/reference/chat_templates.py [TEMPLATE_FOLDER]

The environment is the one that transformers builds (sandboxed Jinja2, trimmed blocks, loop
controls, its tojson, raise_exception, strftime_now, the generation block); the clock stands still.
Only conversations and expected texts are written, never a template.
"""

import datetime
import json
import pathlib
import sys

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "formats/tests/data/chat"
NOW = datetime.datetime(2025, 3, 9, 14, 5, 6, tzinfo=datetime.timezone.utc)


class Generation(Extension):
    """`{% generation %}` prints its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def compile_template(source):
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env.from_string(source)


def m(role, content, **extra):
    return {"role": role, "content": content, **extra}


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city, \"now\" – °C.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}},
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "hidden", "description": "", "parameters": {"type": "object", "properties": {}}}},
]
USER = m("user", "What is 17 + 25?")
SYSTEM = m("system", "You are terse.")
THOUGHT = m("assistant", "<think>\n17 + 25 = 42\n</think>\n\n42")
CALL = m("assistant", "", tool_calls=[{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 2}}}])
RESULT = m("tool", "{\"celsius\": 7.5}")

CASES = [
    {"name": "user", "messages": [USER]},
    {"name": "user, no prompt", "messages": [USER], "add_generation_prompt": False},
    {"name": "system", "messages": [SYSTEM, USER]},
    {"name": "turns", "messages": [SYSTEM, USER, m("assistant", "42"), m("user", "And minus 2?")]},
    {"name": "turns, no system", "messages": [USER, m("assistant", " 42 \n"), m("user", "  And minus 2? \n")]},
    {"name": "thoughts in history", "messages": [USER, THOUGHT, m("user", "Sure?")]},
    {"name": "thoughts last", "messages": [USER, THOUGHT], "add_generation_prompt": False},
    {"name": "thinking on", "messages": [USER, THOUGHT, m("user", "Sure?")], "enable_thinking": True},
    {"name": "thinking off", "messages": [SYSTEM, USER, THOUGHT, m("user", "Sure?")], "enable_thinking": False},
    {"name": "reasoning field", "messages": [USER, m("assistant", "42", reasoning_content="Adding.\n")], "add_generation_prompt": False},
    {"name": "tools", "messages": [USER], "tools": TOOLS},
    {"name": "tools, system", "messages": [SYSTEM, USER], "tools": TOOLS},
    {"name": "tool call", "messages": [USER, CALL, RESULT], "tools": TOOLS},
    {"name": "tool call and answer", "messages": [SYSTEM, USER, CALL, RESULT, m("assistant", "7.5 °C"), m("user", "Thanks!")], "tools": TOOLS},
    {"name": "two results", "messages": [USER, CALL, RESULT, RESULT], "tools": TOOLS, "add_generation_prompt": False},
    {"name": "switch in system", "messages": [m("system", "Be kind. /no_think"), USER]},
    {"name": "quotes and lines", "messages": [m("user", "a \"b\" 'c'\n\n{{ d }} {% e %} <|im_end|> é 🦙\t\\n")]},
    {"name": "two users", "messages": [USER, USER]},
    {"name": "unknown role", "messages": [USER, m("narrator", "Once.")]},
    {"name": "skipped", "messages": [m("system", "x", skip=True), USER]},
    {"name": "date given", "messages": [USER], "extra": {"date_string": "1 Jan 2001"}},
    {"name": "tools in system", "messages": [SYSTEM, USER], "tools": TOOLS, "extra": {"tools_in_user_message": False}},
]


def render(template, case):
    options = {"tools": None, "documents": None, "add_generation_prompt": True, "bos_token": "<BOS>", "eos_token": "<EOS>"}
    options |= {k: v for k, v in case.items() if k not in ("name", "extra")} | case.get("extra", {})
    try:
        return template.render(**options)
    except jinja2.exceptions.UndefinedError:
        return {"error": "render"}
    except jinja2.exceptions.TemplateError as e:
        return {"error": "refused", "message": str(e)}
    except TypeError:
        return {"error": "render"}


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "../shared/fixtures/templates"
    expected = {}
    for path in [DATA / "own.jinja", *sorted(folder.glob("*.jinja"))]:
        template = compile_template(path.read_text(encoding="utf-8"))
        expected[path.name] = [render(template, case) for case in CASES]
    data = {"now": int(NOW.timestamp()), "cases": CASES, "expected": expected}
    (DATA / "expected.json").write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
