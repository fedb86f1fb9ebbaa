#!/usr/bin/env python3
"""The JSON Schema test suite over HTTP: what `weft serve` writes under each schema, judged by the package jsonschema.

    pip install "jsonschema[format-nongpl]==4.26.0"
    python3 tests/clients/schemas.py WEFT [-o TABLE.md] [--seeds N] [--only FILE,FILE]

The schemas are those of draft 2020-12 that lie beside the unit tests of the server (suite.json), and some of ours with
numbers that a double does not hold. Each is asked for under several seeds at temperature 2, so that weft-mini writes
nearly anything that the grammar leaves open; every answer that is whole must be valid. A schema that is not enforced
must be answered with 400, the code and param of a schema that cannot be enforced, and a sentence that names a keyword
of this very schema. Exits with 1 where something differs.
"""

import argparse
import concurrent.futures
import importlib.metadata as metadata
import json
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

import jsonschema
from clients import Server

ROOT = Path(__file__).resolve().parents[2]
SUITE = ROOT / "server/src/grammar/tests/suite.json"
FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER
TOKENS = 160

# Whole numbers beyond ±(2^53 - 1) are kept exactly or refused by name. Decimals are doubles, here and in Python.
LARGE = """
{"const": 9007199254740993}
{"const": -9223372036854775808}
{"const": 18446744073709551616}
{"const": 123456789012345678901234567890}
{"const": 0.1234567890123456789}
{"const": [1, {"a": 9007199254740993}]}
{"enum": [1, 9007199254740993]}
{"enum": [18446744073709551615]}
{"type": "integer", "minimum": 9007199254740993}
{"type": "integer", "minimum": 9007199254740993, "maximum": 9007199254740993}
{"type": "integer", "maximum": -9007199254740993}
{"type": "integer", "exclusiveMinimum": 18446744073709551615}
{"type": "integer", "minimum": 9007199254740990, "maximum": 9007199254740991}
{"type": "integer", "multipleOf": 9007199254740993}
{"type": "number", "maximum": 1.0000000000000000001, "minimum": 1.0000000000000000001}
{"type": "string", "minLength": 18446744073709551616}
{"type": "array", "maxItems": 99999999999999999999}
{"properties": {"id": {"const": 9007199254740993}}, "required": ["id"]}
"""


class Asked(Server):
    def __init__(self, weft):
        super().__init__(weft, "--slots", "4", "-c", "512", "--queue", "256", "--queue-time", "600")

    def ask(self, text, seed):
        """Status and body of the answer under a schema, which is given as text so that its numbers stay as they are."""
        body = json.dumps({
            "model": "weft-mini", "seed": seed, "temperature": 2, "max_tokens": TOKENS, "reasoning_effort": "none",
            "messages": [{"role": "user", "content": f"Write JSON, number {seed}."}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": 0}},
        })  # fmt: skip
        body = body.replace('"schema": 0', '"schema": ' + text)
        request = urllib.request.Request(
            self.at + "/v1/chat/completions", body.encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=900) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


def keywords(schema):
    """The names of all members anywhere in a schema."""
    if isinstance(schema, dict):
        return set(schema).union(*map(keywords, schema.values()))
    return set().union(*map(keywords, schema)) if isinstance(schema, list) else set()


class Group:
    """What became of one schema."""

    def __init__(self, server, file, about, text, seeds):
        self.file, self.about, self.text = file, f"{file}: {about}", text
        self.schema = json.loads(text)
        self.whole = self.cut = 0
        self.refused, self.wrong = None, []
        for seed in range(seeds):
            status, body = server.ask(text, seed)
            if status == 200:
                self.answer(body["choices"][0])
            else:
                self.refusal(status, body.get("error") or {})
                return

    def answer(self, choice):
        content = choice["message"]["content"]
        if choice["finish_reason"] == "length":
            self.cut += 1
            return
        self.whole += 1
        try:
            value = json.loads(content)
        except ValueError as error:
            self.wrong.append(f"{content!r} is no JSON: {error}")
            return
        # Formats bind in our server, as OpenAI's have them.
        checker = FORMATS if self.file.startswith("format-") else None
        try:
            jsonschema.Draft202012Validator(self.schema, format_checker=checker).validate(value)
        except jsonschema.ValidationError as error:
            self.wrong.append(f"{content} was written: {error.message}")

    def refusal(self, status, error):
        said = error.get("message", "")
        self.refused = next((k for k in sorted(keywords(self.schema)) if f'"{k}"' in said), None)
        if status != 400 or not error.get("code") or "response_format" not in (error.get("param") or ""):
            self.wrong.append(f"{status} {error}")
        elif self.refused is None and not re.search(r" at #\S*", said):
            self.wrong.append(f"neither a keyword nor a place is named: {said}")
        self.said = said


def cases(only):
    suite = json.loads(SUITE.read_text())
    for file, groups in suite.items():
        for group in groups:
            if not only or file in only:
                yield file, group["description"], json.dumps(group["schema"])
    if not only or "large numbers" in only:
        for text in LARGE.strip().splitlines():
            yield "large numbers", text, text


def table(groups, seeds):
    out = "# The JSON Schema test suite over HTTP\n\nMade by `tests/clients/schemas.py`: weft-mini at temperature 2, "
    out += f"{seeds} seeds a schema, at most {TOKENS} tokens; answers that reached that are cut, and not judged. Valid is what "
    out += f"the Python package jsonschema {metadata.version('jsonschema')} says. Refused schemas were answered with 400 and the keyword.\n\n"
    out += "| file of the suite | enforced | refused | answers | cut | valid | refused for |\n|---|---:|---:|---:|---:|---:|---|\n"
    rows, sums = {}, [0] * 5
    for g in groups:
        rows.setdefault(g.file, []).append(g)
    for file, all_of in sorted(rows.items()):
        refused = [g for g in all_of if hasattr(g, "said")]
        whole = sum(g.whole for g in all_of)
        bad = sum("was written" in w or "is no JSON" in w for g in all_of for w in g.wrong)
        row = [len(all_of) - len(refused), len(refused), whole, sum(g.cut for g in all_of), whole - bad]
        sums = [a + b for a, b in zip(sums, row)]
        why = sorted({f"`{g.refused}`" if g.refused else "a place" for g in refused})
        out += f"| {file} | {' | '.join(map(str, row))} | {', '.join(why)} |\n"
    return out + f"| all | {' | '.join(map(str, sums))} | |\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weft")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--only", type=lambda s: s.split(","))
    parser.add_argument("--show", action="store_true", help="print each refusal")
    o = parser.parse_args()
    server = Asked(o.weft)
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            groups = list(pool.map(lambda case: Group(server, *case, o.seeds), cases(o.only)))
    finally:
        server.end()
    made = table(groups, o.seeds)
    if o.output:
        o.output.write_text(made)
    print(made)
    for g in groups:
        if o.show and hasattr(g, "said"):
            print(f"{g.about}: {g.said}")
        for w in dict.fromkeys(g.wrong):
            print(f"WRONG {g.about} {g.text}\n    {w}")
    wrong = sum(len(g.wrong) for g in groups)
    print(f"{len(groups)} schemas, {wrong} faults")
    return 1 if wrong or sum(g.whole for g in groups) < len(groups) else 0


if __name__ == "__main__":
    sys.exit(main())
