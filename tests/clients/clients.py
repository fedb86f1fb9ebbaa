"""The clients that people use, against a running `weft serve`: clients.py WEFT [-o TABLE.md].

With weft-mini, and with the real Qwen2.5-Coder-0.5B where a package index gives it (tests/real/assemble.py). Each case is a function named CLIENT__WHAT; it passes, fails with a line, or is skipped where its package is not here or
the server has no such route. Made for ./dev clients, which makes the environment; exits with 1 where a case fails.
"""

import importlib.metadata as metadata
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "real"))
from assemble import Unreachable, assemble, folder  # noqa: E402

QUESTION = "What is 17 + 25?"
REAL = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
# The model that is asked, and what a request says so that it does not think before it answers.
MODEL, BRIEF = "weft-mini", {"reasoning_effort": "none"}
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer", "maximum": 99}, "b": {"enum": [1, 25]}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
ASK = [{"role": "user", "content": QUESTION}]


class Skip(Exception):
    pass


class Server:
    def __init__(self, weft, *flags):
        self.process = subprocess.Popen([weft, "serve", "--port", "0", *flags], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.match(r"listening at (http://[0-9.:]+)", line):
                self.at = found[1]
                return
        raise SystemExit("weft serve did not start")

    def end(self):
        self.process.terminate()
        self.process.wait(30)

    def has(self, route):
        with urllib.request.urlopen(self.at + "/openapi.json") as answer:
            return route in json.load(answer)["paths"]

    def need(self, route):
        if not self.has(route):
            raise Skip(f"there is no {route} yet")

    def is_idle(self):
        for _ in range(100):
            with urllib.request.urlopen(self.at + "/slots") as answer:
                if not any(slot["is_processing"] for slot in json.load(answer)):
                    return True
            time.sleep(0.05)
        return False


def need(package):
    try:
        return __import__(package)
    except ImportError:
        raise Skip(f"{package} is not here") from None


# openai


def openai_client(server, **more):
    return need("openai").OpenAI(base_url=server.at + "/v1", api_key="none", **more)


def openai__chat(server):
    answer = openai_client(server).chat.completions.create(model=MODEL, messages=ASK)
    assert "42" in answer.choices[0].message.content, answer
    assert not BRIEF or "42" in answer.choices[0].message.reasoning_content, answer
    assert answer.choices[0].finish_reason == "stop" and answer.usage.completion_tokens > 1


def openai__stream(server):
    stream = openai_client(server).chat.completions.create(
        model=MODEL, messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    text, usage = "", None
    for chunk in stream:
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert "42" in text and usage.total_tokens > 20, (text, usage)


def openai__tools(server):
    client = openai_client(server)
    answer = client.chat.completions.create(
        model=MODEL, messages=ASK, tools=[TOOL], tool_choice="required", **BRIEF
    )
    call = answer.choices[0].message.tool_calls[0]
    assert answer.choices[0].finish_reason == "tool_calls" and call.function.name == "add"
    arguments = json.loads(call.function.arguments)
    assert arguments["b"] in (1, 25)
    back = [*ASK, answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "42"}]
    # What a small model says to that may have no end.
    assert client.chat.completions.create(model=MODEL, messages=back, tools=[TOOL], max_tokens=64).choices[0].message


def openai__stream_helper_with_tools(server):
    named = {"type": "function", "function": {"name": "add"}}
    with openai_client(server).chat.completions.stream(
        model=MODEL, messages=ASK, tools=[TOOL], tool_choice=named, **BRIEF
    ) as stream:
        kinds = {event.type for event in stream}
        call = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert "tool_calls.function.arguments.done" in kinds, kinds
    assert call.function.parsed_arguments["b"] in (1, 25)


def openai__parse(server):
    pydantic = need("pydantic")
    Sum = pydantic.create_model("Sum", sum=(int, ...))
    answer = openai_client(server).chat.completions.parse(
        model=MODEL, messages=ASK, response_format=Sum, **BRIEF
    )
    assert isinstance(answer.choices[0].message.parsed.sum, int)


def openai__completions_and_logprobs(server):
    client = openai_client(server)
    answer = client.completions.create(model=MODEL, prompt="What is", max_tokens=4, logprobs=2)
    assert len(answer.choices[0].logprobs.tokens) == 4
    answer = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=3, logprobs=True, top_logprobs=5)
    assert all(len(token.top_logprobs) == 5 for token in answer.choices[0].logprobs.content)


def openai__models(server):
    client = openai_client(server)
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL


def openai__errors(server):
    openai = need("openai")
    client = openai_client(server)
    for kind, code, more in [
        (openai.NotFoundError, "model_not_found", {"model": "gpt-4"}),
        (openai.BadRequestError, "invalid_value", {"temperature": 3}),
        (openai.BadRequestError, "unknown_parameter", {"extra_body": {"temprature": 1}}),
        (openai.BadRequestError, "context_length_exceeded", {"messages": [{"role": "user", "content": "a " * 9000}]}),
    ]:
        try:
            client.chat.completions.create(**{"model": MODEL, "messages": ASK, **more})
        except kind as error:
            assert error.code == code and error.request_id, error
        else:
            raise AssertionError(f"{more} was answered")


def openai__leaving_a_stream_frees_its_slot(server):
    stream = openai_client(server).chat.completions.create(
        model=MODEL, messages=ASK, stream=True, max_tokens=900, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    stream.close()
    assert server.is_idle()


def openai__async_at_once(server):
    import asyncio

    async def all_of_them():
        client = need("openai").AsyncOpenAI(base_url=server.at + "/v1", api_key="none")
        ask = lambda i: [{"role": "user", "content": f"What is {i} + 25?"}]
        answers = [client.chat.completions.create(model=MODEL, messages=ask(i)) for i in range(12)]
        return await asyncio.gather(*answers)

    for i, answer in enumerate(asyncio.run(all_of_them())):
        assert str(i + 25) in answer.choices[0].message.content, (i, answer)


def openai__embeddings_of_a_model_of_text_are_refused(server):
    openai = need("openai")
    try:
        openai_client(server).embeddings.create(model=MODEL, input="a text")
    except openai.BadRequestError as error:
        assert "writes text" in error.message
    else:
        raise AssertionError("vectors came")


def openai__responses(server):
    server.need("/v1/responses")
    client = openai_client(server)
    answer = client.responses.create(model=MODEL, input=QUESTION)
    assert "42" in answer.output_text, answer
    again = client.responses.create(model=MODEL, input="What is 9 - 2?", previous_response_id=answer.id)
    assert again.output_text
    with client.responses.stream(model=MODEL, input=QUESTION) as stream:
        for _ in stream:
            pass
        assert "42" in stream.get_final_response().output_text


# anthropic


def anthropic_client(server):
    server.need("/v1/messages")
    return need("anthropic").Anthropic(base_url=server.at, api_key="none")


def anthropic__messages(server):
    answer = anthropic_client(server).messages.create(model=MODEL, max_tokens=200, messages=ASK)
    assert any("42" in block.text for block in answer.content if block.type == "text"), answer
    assert answer.stop_reason == "end_turn" and answer.usage.output_tokens > 1


def anthropic__stream(server):
    with anthropic_client(server).messages.stream(model=MODEL, max_tokens=200, messages=ASK) as stream:
        text = "".join(stream.text_stream)
        assert "42" in text and stream.get_final_message().stop_reason == "end_turn", text


def anthropic__tools(server):
    function = TOOL["function"]
    tool = {"name": "add", "description": function["description"], "input_schema": function["parameters"]}
    answer = anthropic_client(server).messages.create(
        model=MODEL, max_tokens=900, messages=ASK, tools=[tool], tool_choice={"type": "any"}
    )
    use = next(block for block in answer.content if block.type == "tool_use")
    assert use.name == "add" and use.input["b"] in (1, 25) and answer.stop_reason == "tool_use", answer


def anthropic__count_tokens(server):
    count = anthropic_client(server).messages.count_tokens(model=MODEL, messages=ASK)
    assert 10 < count.input_tokens < 100


def anthropic__errors(server):
    anthropic = need("anthropic")
    try:
        anthropic_client(server).messages.create(model="claude", max_tokens=5, messages=ASK)
    except anthropic.NotFoundError as error:
        assert MODEL in str(error)
    else:
        raise AssertionError("another model answered")


# ollama


def ollama_client(server):
    server.need("/api/chat")
    return need("ollama").Client(host=server.at)


def ollama__chat(server):
    answer = ollama_client(server).chat(model=MODEL, messages=ASK)
    assert "42" in answer.message.content and answer.done_reason == "stop", answer


def ollama__stream(server):
    text = "".join(part.message.content or "" for part in ollama_client(server).chat(MODEL, ASK, stream=True))
    assert "42" in text, text


def ollama__generate(server):
    assert ollama_client(server).generate(MODEL, QUESTION).response


def ollama__lists(server):
    client = ollama_client(server)
    assert MODEL in [model.model.split(":")[0] for model in client.list().models]
    assert client.show(MODEL) and client.ps()


# others


def llm__a_person_s_terminal(server):
    need("llm")
    home = Path(os.environ.get("TMPDIR", "/tmp")) / f"weft-llm-{os.getpid()}"
    home.mkdir(exist_ok=True)
    entry = f"- model_id: weft\n  model_name: {MODEL}\n  api_base: {server.at}/v1\n  api_key_name: weft\n"
    (home / "extra-openai-models.yaml").write_text(entry)
    command = [sys.executable, "-m", "llm", "-m", "weft", "--key", "none", QUESTION]
    ran = subprocess.run(command, env={**os.environ, "LLM_USER_PATH": str(home)}, capture_output=True, text=True)
    assert "42" in ran.stdout, ran.stdout + ran.stderr


def pydantic_ai__typed_output(server):
    need("pydantic_ai")
    from pydantic import BaseModel
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    class Sum(BaseModel):
        sum: bool

    provider = OpenAIProvider(base_url=server.at + "/v1", api_key="none")
    settings = {"extra_body": BRIEF}
    agent = Agent(OpenAIChatModel(MODEL, provider=provider), output_type=Sum, model_settings=settings)
    assert isinstance(agent.run_sync(QUESTION).output.sum, bool)


def langchain_openai__chat_and_stream(server):
    need("langchain_openai")
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model=MODEL, base_url=server.at + "/v1", api_key="none")
    assert "42" in model.invoke(QUESTION).content
    assert "42" in "".join(chunk.content for chunk in model.stream(QUESTION))


def node(server):
    """The cases of openai.mjs: (name, error or None)."""
    ran = subprocess.run(["node", str(HERE / "openai.mjs"), server.at, MODEL, json.dumps(BRIEF)], capture_output=True, text=True, timeout=600)
    if ran.returncode != 0 or not ran.stdout:
        raise AssertionError(ran.stderr)
    return [json.loads(line) for line in ran.stdout.splitlines()]


PACKAGES = {"pydantic_ai": "pydantic-ai-slim", "langchain_openai": "langchain-openai"}


def version(client):
    try:
        return metadata.version(PACKAGES.get(client, client))
    except metadata.PackageNotFoundError:
        return "-"


def run(weft, *flags):
    """The rows of a table, and how many cases fail."""
    server = Server(weft, *flags)
    rows, failed = [], 0
    try:
        for name, case in list(globals().items()):
            if "__" not in name or name.startswith("__"):
                continue
            client, what = name.split("__")
            try:
                case(server)
                result = "passes"
            except Skip as why:
                result = f"skipped: {why}"
            except Exception as error:
                failed += 1
                result = "FAILS: " + " ".join(f"{type(error).__name__} {error}".split())[:300]
            rows.append((client, version(client), what.replace("_", " "), result))
            print(*rows[-1], sep=" | ", file=sys.stderr)
        try:
            for case in node(server):
                failed += case["error"] is not None
                result = f"FAILS: {case['error']}" if case["error"] else "passes"
                rows.append((case["client"], case["version"], case["what"], result))
                print(*rows[-1], sep=" | ", file=sys.stderr)
        except (OSError, AssertionError) as error:
            rows.append(("npm", "-", "the JavaScript clients", f"skipped: {' '.join(str(error).split())[:120]}"))
    finally:
        server.end()
    return rows, failed


def main():
    global MODEL, BRIEF
    weft, out = sys.argv[1], sys.argv[3] if sys.argv[2:3] == ["-o"] else None
    all_rows = [run(weft)]
    heads, note = [MODEL], ""
    try:
        path = assemble(REAL, folder())
    except Unreachable as error:
        note = f"\n{REAL} was not asked: {error}\n"
    else:
        MODEL, BRIEF = path.stem, {}
        heads.append("Qwen2.5-Coder-0.5B, Q4_K_M")
        all_rows.append(run(weft, "-m", str(path), "--temp", "0", "-c", "4096"))
    head = "| client | version | what | " + " | ".join(heads) + " |\n" + "|---" * (3 + len(heads)) + "|\n"
    table = {}
    for n, (rows, _) in enumerate(all_rows):
        for client, number, what, result in rows:
            table.setdefault((client, number, what), ["-"] * len(heads))[n] = result
    lines = "".join(f"| {' | '.join(cell.replace('|', '/') for cell in [*key, *results])} |\n" for key, results in table.items())
    counts = [f"{sum(row[3] == 'passes' for row in rows)} of {len(rows)} cases pass with {name}" for name, (rows, _) in zip(heads, all_rows)]
    text = f"# Clients against weft serve\n\n`./dev clients`: {', '.join(counts)}.\n{note}\n{head}{lines}"
    if out:
        Path(out).write_text(text)
    print(text)
    return 1 if any(failed for _, failed in all_rows) else 0


if __name__ == "__main__":
    sys.exit(main())
