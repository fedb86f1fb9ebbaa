"""Every row of the table of faults that trials found: python3 tests/fault_cases.py WEFT [FOLDER]

FOLDER holds the inputs (model.gguf, adapter.gguf, templates/ and so on, with make.py for the large ones); without it
`../shared/fixtures/cases-faults` beside this repository is taken, and without that there is one line and nothing to
do. Each command has 4 GB of address space and 15 seconds, as a user's shell might set them. Needs Python alone.
"""
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PART = ".part"


class Cases:
    def __init__(self, weft, folder, scratch):
        self.weft, self.scratch = weft, scratch
        self.wrong = self.ran = 0
        self.beside = os.path.dirname(os.path.abspath(folder))
        # The folder may be read-only, and some cases write beside their inputs.
        self.d = os.path.join(scratch, "d")
        shutil.copytree(folder, self.d)
        for path, folders, files in os.walk(self.d):
            for name in [".", *files]:
                os.chmod(os.path.join(path, name), 0o755 if name == "." else 0o644)
        subprocess.run([sys.executable, f"{self.d}/make.py", self.d], check=True)

    def run(self, *args, stdin=b"", seconds=15, gigabytes=4):
        def limits():
            resource.setrlimit(resource.RLIMIT_AS, (int(gigabytes * 10**9),) * 2)

        start = time.monotonic()
        try:
            run = subprocess.run([self.weft, *args], input=stdin, capture_output=True, cwd=self.d, timeout=seconds,
                                 preexec_fn=limits)
            code, out, err = run.returncode, run.stdout, run.stderr
        except subprocess.TimeoutExpired as e:
            code, out, err = None, e.stdout or b"", (e.stderr or b"") + b"TIMEOUT"
        return code, out.decode(errors="replace"), err.decode(errors="replace"), time.monotonic() - start

    def say(self, name, good, shown):
        self.ran += 1
        self.wrong += not good
        print(("pass  " if good else "FAIL  ") + name, flush=True)
        if not good:
            print("      " + shown.strip()[-400:].replace("\n", "\\n"), flush=True)

    def ok(self, name, *args, out=None, seconds=15, **more):
        code, stdout, stderr, took = self.run(*args, seconds=seconds, **more)
        good = code == 0 and "bug in weft" not in stderr and (out is None or out(stdout)) and not self.parts()
        self.say(name, good, f"{code} in {took:.1f} s: {stdout} | {stderr}")

    def fails(self, name, *args, says="", kept=(), absent=(), typed=False, **more):
        """One `error:` line that has `says`, code 1, or 2 where what was `typed` is wrong by itself; the files `kept` as
        they were, those of `absent` not there."""
        before = {k: open(f"{self.d}/{k}", "rb").read() for k in kept}
        code, stdout, stderr, took = self.run(*args, **more)
        lines = [l for l in stderr.splitlines() if l.startswith("error: ")]
        # A chat whose lines were piped counts them at the end.
        lines = [l for l in lines if not l.endswith("of the lines failed")]
        good = code == (2 if typed else 1) and len(lines) == 1 and "bug in weft" not in stderr and says in lines[0]
        good = good and all(open(f"{self.d}/{k}", "rb").read() == v for k, v in before.items())
        good = good and not any(os.path.exists(f"{self.d}/{a}") for a in absent) and not self.parts()
        self.say(name, good, f"{code} in {took:.1f} s: {stdout} | {stderr}")

    def parts(self):
        return [f for f in os.listdir(self.d) if f.endswith(PART)]


def shapes(c):
    c.ok("quantize a tensor without dimensions", "quantize", "scalar-tensor.gguf", "out.gguf", "Q4_0")
    # It has no place in a graph, so `run` refuses it by name.
    c.ok("inspect what was quantized", "inspect", "out.gguf", out=lambda text: "extra.scale" in text)
    c.ok("merge a tensor without dimensions", "merge", "-m", "scalar-tensor.gguf", "--lora", "adapter.gguf", "-o",
         "merged.gguf")
    c.ok("inspect what was merged", "inspect", "merged.gguf", out=lambda text: "extra.scale" in text)
    for name in ["query-wide", "query-rows"]:
        c.fails(f"merge {name}", "merge", "-m", f"{name}.gguf", "--lora", "adapter.gguf", "-o", "m.gguf", says="attn_q",
                absent=["m.gguf"])
        c.fails(f"run {name}", "run", "-m", f"{name}.gguf", "--lora", "adapter.gguf", "--raw", "the", "-n", "1")


def numbers(c):
    c.fails("NaN weights", "run", "-m", "nan-weight.gguf", "--raw", "the", "-n", "3", "--temp", "0", says="not finite")
    c.fails("a negative epsilon", "run", "-m", "negative-eps.gguf", "--raw", "the", "-n", "3", "--temp", "0",
            says="epsilon")
    c.fails("NaN logits", "logits", "-m", "nan-weight.gguf", "--tokens", "ids.json", "-o", "l.safetensors",
            says="not finite", absent=["l.safetensors"])
    c.fails("NaN divergence", "eval", "-m", "nan-weight.gguf", "--suite", "divergence", "--against", "model.gguf", "-f",
            "text.txt", "-c", "16", says="not finite")


def vocabularies(c):
    c.ok("a special token of 64 KiB", "tokenize", "-m", "special-64k.gguf", "hello", seconds=1.5)
    # 3 MB of file: half a gigabyte is a lot already.
    c.ok("a special token of 1 MiB", "tokenize", "-m", "special-random-1m.gguf", "hello", gigabytes=0.6)
    for name in ["specials-60000", "specials-nested"]:
        text = open(f"{c.d}/{name}.txt", "rb").read()
        c.ok(name, "tokenize", "-m", f"{name}.gguf", "-", stdin=text)


def templates(c):
    show = ["finetune", "-m", "model.gguf", "--ctx", "64", "--show-batch", "-d"]
    c.ok("a conversation of 400 messages", *show, "messages-400.jsonl", seconds=3)
    for name in sorted(os.listdir(f"{c.d}/templates")):
        path = f"templates/{name}"
        c.fails(f"{name} of finetune", *show, "one.jsonl", "--chat-template", path, says="template", seconds=5,
                gigabytes=1)
        c.fails(f"{name} of run", "run", "-m", "model.gguf", "--chat-template", path, "hi", says="template", seconds=15)
        c.fails(f"{name} of chat", "chat", "-m", "model.gguf", "--chat-template", path, stdin=b"hi\n", says="template",
                seconds=15)


def own_input(c):
    shutil.copy(f"{c.d}/model.gguf", f"{c.d}/m.gguf")
    shutil.copy(f"{c.d}/text.txt", f"{c.d}/t.txt")
    shutil.copy(f"{c.d}/adapter.gguf", f"{c.d}/a.gguf")
    keep = {"kept": ["m.gguf", "t.txt", "a.gguf", "ids.json", "one.jsonl"]}
    c.fails("imatrix over its model", "imatrix", "-m", "m.gguf", "-f", "text.txt", "-c", "64", "-o", "m.gguf", **keep)
    c.fails("imatrix over its text", "imatrix", "-m", "m.gguf", "-f", "t.txt", "-c", "64", "-o", "t.txt", **keep)
    c.fails("logits over the model", "logits", "-m", "m.gguf", "--tokens", "ids.json", "-o", "m.gguf", **keep)
    c.fails("logits over its ids", "logits", "-m", "m.gguf", "--tokens", "ids.json", "-o", "ids.json", **keep)
    c.fails("a trace over the model", "bench", "-m", "m.gguf", "-p", "2", "-n", "1", "-r", "1", "--profile", "--trace",
            "m.gguf", **keep)
    c.fails("tune over a text", "tune", "--quick", "--seconds", "1", "-o", "t.txt", **keep)
    c.fails("curriculum over data", "curriculum", "--count", "1", "-o", "one.jsonl", **keep)
    c.fails("quantize over its input", "quantize", "m.gguf", "m.gguf", "Q4_0", **keep)
    c.fails("quantize over an adapter", "quantize", "m.gguf", "a.gguf", "Q4_0", **keep)
    c.fails("quantize over a text", "quantize", "m.gguf", "t.txt", "Q4_0", **keep)
    c.fails("merge over its input", "merge", "-m", "m.gguf", "--lora", "a.gguf", "-o", "m.gguf", **keep)
    c.fails("merge over its adapter", "merge", "-m", "m.gguf", "--lora", "a.gguf", "-o", "a.gguf", **keep)


def runs(c):
    # A run takes many gigabytes of addresses for its driver; this is about files.
    args = [c.weft, "finetune", "-m", "model.gguf", "-d", "one.jsonl", "--ctx", "64", "--steps", "100000", "-o", "f"]

    def start(*more):
        run = subprocess.Popen([*args, *more], cwd=c.d, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        begun, lines = time.monotonic(), count()
        while count() == lines and time.monotonic() - begun < 60 and run.poll() is None:
            time.sleep(0.02)
        return run

    def count():
        try:
            return open(f"{c.d}/f/metrics.jsonl").read().count("\n")
        except OSError:
            return 0

    run = start()
    run.kill()
    run.wait()
    for name, how in [("SIGTERM", signal.SIGTERM), ("SIGHUP", signal.SIGHUP)]:
        run = start(*(["--resume"] if name == "SIGHUP" else []))
        run.send_signal(how)
        err = run.communicate(timeout=60)[1].decode(errors="replace")
        saved = [f for f in os.listdir(f"{c.d}/f") if f.startswith("checkpoint-")] if os.path.isdir(f"{c.d}/f") else []
        parts = [f for f in os.listdir(f"{c.d}/f") if f.endswith(PART)] if saved else []
        c.say(f"a killed run starts again, {name} saves", run.returncode == 130 and saved and not parts,
              f"{run.returncode} {saved} {parts} {err}")


def odd_files(c):
    hf = f"{c.beside}/cases/hf-base"
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
                 "chat_template.jinja", "model.safetensors", "model.safetensors.index.json"] if os.path.isdir(hf) else []:
        for target in ["/dev/zero", "fifo"]:
            folder = f"{c.scratch}/hf"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(hf, folder)
            os.chmod(folder, 0o755)
            if os.path.exists(f"{folder}/{name}"):
                os.remove(f"{folder}/{name}")
            if name.endswith("index.json"):
                os.remove(f"{folder}/model.safetensors")
            os.mkfifo(f"{folder}/{name}") if target == "fifo" else os.symlink(target, f"{folder}/{name}")
            c.fails(f"{name} is {target}", "convert", folder, "hf.gguf", says=name, seconds=5, absent=["hf.gguf"])
    for name in ["adapter_config.json", "adapter_model.safetensors"]:
        folder = f"{c.scratch}/peft"
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        with open(f"{folder}/adapter_config.json", "w") as f:
            json.dump({"peft_type": "LORA", "r": 4, "lora_alpha": 4}, f)
        with open(f"{folder}/adapter_model.safetensors", "wb") as f:
            f.write(b"\2\0\0\0\0\0\0\0{}")
        os.remove(f"{folder}/{name}")
        os.symlink("/dev/zero", f"{folder}/{name}")
        c.fails(f"{name} is /dev/zero", "run", "-m", "model.gguf", "--lora", folder, "--raw", "the", "-n", "1", says=name)
    c.ok("a glob of many stars", "kernels", "list", "--op", "*" * 21 + "a", out=lambda text: "lora_grad_a" in text)
    c.fails("one that matches nothing", "kernels", "list", "--op", "*" * 60 + "zz", says="no op matches", typed=True)
    # Too few threads; root has no such limit.
    if os.geteuid() != 0:
        code, out, err, took = c.run("run", "-m", "model.gguf", "--raw", "the", "-n", "1")
        c.say("few threads", "bug in weft" not in err, err)


def main():
    weft = os.path.abspath(sys.argv[1])
    folder = sys.argv[2] if len(sys.argv) > 2 else f"{HERE}/../../shared/fixtures/cases-faults"
    if not os.path.isdir(folder):
        print(f"skipped: {folder} is not here")
        return
    with tempfile.TemporaryDirectory() as scratch:
        c = Cases(weft, folder, scratch)
        for part in [shapes, numbers, vocabularies, templates, own_input, runs, odd_files]:
            part(c)
        print(f"{c.wrong} of {c.ran} fail")
        sys.exit(c.wrong != 0)


if __name__ == "__main__":
    main()
