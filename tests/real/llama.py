"""llama.cpp on the CPU through the C interface that the package xllamacpp exports."""

import ctypes
import json
import os
import types
import urllib.request
from pathlib import Path

import numpy as np
import xllamacpp


class Opaque(ctypes.Structure):
    """A struct of parameters of which only the first fields are set: larger than any version's."""

    _fields_ = [("words", ctypes.c_uint32 * 128)]


class Batch(ctypes.Structure):
    _fields_ = [("n", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p)]
    _fields_ += [("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq", ctypes.POINTER(ctypes.c_int32))]
    _fields_ += [("seq", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


CONTEXT, BATCH, MICRO, POOLING, FLASH, KEYS, VALUES = 0, 1, 2, 11, 13, 26, 27  # words of the context's parameters
F32, F16 = 0, 1  # what KEYS and VALUES in the cache may be
# Nothing is rounded to F16: flash attention does so whatever the cache is.
WIDE = {"FLASH": 0, "KEYS": F32, "VALUES": F32}
VERSION = xllamacpp.__version__
Log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


def library():
    """The functions that are declared here and no others: one that is called undeclared would get its pointers cut
    to 32 bits."""
    lib, out = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("*.so")))), types.SimpleNamespace()
    pointer, i32, string, yes = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_bool
    signatures = {
        "llama_log_set": (None, [Log, pointer]),
        "llama_backend_init": (None, []),
        "llama_model_default_params": (Opaque, []),
        "llama_context_default_params": (Opaque, []),
        "llama_model_load_from_file": (pointer, [string, Opaque]),
        "llama_init_from_model": (pointer, [pointer, Opaque]),
        "llama_model_get_vocab": (pointer, [pointer]),
        "llama_vocab_n_tokens": (i32, [pointer]),
        "llama_model_n_embd": (i32, [pointer]),
        "llama_tokenize": (i32, [pointer, string, i32, pointer, i32, yes, yes]),
        "llama_batch_init": (Batch, [i32] * 3),
        "llama_decode": (i32, [pointer, Batch]),
        "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), [pointer, i32]),
        "llama_set_embeddings": (None, [pointer, yes]),
        "llama_get_embeddings_seq": (ctypes.POINTER(ctypes.c_float), [pointer, i32]),
        "llama_set_n_threads": (None, [pointer, i32, i32]),
        "llama_adapter_lora_init": (pointer, [pointer, string]),
        "llama_set_adapters_lora": (i32, [pointer, pointer, ctypes.c_size_t, pointer]),
        "llama_batch_free": (None, [Batch]),
        "llama_free": (None, [pointer]),
        "llama_model_free": (None, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
        setattr(out, name, function)
    out.quiet = Log(lambda *_: None)
    out.llama_log_set(out.quiet, None)
    out.llama_backend_init()
    words = out.llama_context_default_params().words
    known = {CONTEXT: 512, BATCH: 2048, MICRO: 512, POOLING: 0xFFFFFFFF, FLASH: 0xFFFFFFFF, KEYS: F16, VALUES: F16}
    assert {at: words[at] for at in known} == known, (
        "the parameters of llama.cpp's contexts have moved: see llama.py"
    )
    return out


LIB = library()
THREADS = int(os.environ.get("WEFT_REAL_THREADS", "2"))


class Model:
    """One file. Raises ValueError where llama.cpp does not take it."""

    def __init__(self, path):
        self.path = str(path)
        self.model = LIB.llama_model_load_from_file(self.path.encode(), LIB.llama_model_default_params())
        if not self.model:
            raise ValueError(f"llama.cpp does not load {path}")
        self.vocabulary = LIB.llama_model_get_vocab(self.model)
        self.size = LIB.llama_vocab_n_tokens(self.vocabulary)
        self.width = LIB.llama_model_n_embd(self.model)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        LIB.llama_model_free(self.model)

    def tokenize(self, text, special=True):
        data = text.encode()
        room = len(data) + 16
        ids = (ctypes.c_int32 * room)()
        n = LIB.llama_tokenize(self.vocabulary, data, len(data), ids, room, special, special)
        assert n >= 0, text
        return list(ids[:n])

    def context(self, tokens, adapter=None, **words):
        """A context of so many tokens; `words` are more of its parameters."""
        p = LIB.llama_context_default_params()
        p.words[CONTEXT] = p.words[BATCH] = max(512, tokens)
        for at, value in words.items():
            p.words[globals()[at]] = value
        context = LIB.llama_init_from_model(self.model, p)
        assert context, self.path
        LIB.llama_set_n_threads(context, THREADS, THREADS)
        if adapter:
            lora = LIB.llama_adapter_lora_init(self.model, str(adapter).encode())
            if not lora:
                raise ValueError(f"llama.cpp does not load the adapter {adapter}")
            loras, scales = (ctypes.c_void_p * 1)(lora), (ctypes.c_float * 1)(1.0)
            assert LIB.llama_set_adapters_lora(context, loras, 1, scales) == 0, adapter
        return context

    def feed(self, context, ids, start=0, every=False):
        """Computes ids at positions from `start` on; what is read afterwards is of all of them, or of the last."""
        b = LIB.llama_batch_init(len(ids), 0, 1)
        b.n = len(ids)
        for i, token in enumerate(ids):
            b.token[i], b.pos[i], b.n_seq[i] = token, start + i, 1
            b.logits[i] = every or i + 1 == len(ids)
            b.seq[i][0] = 0
        assert LIB.llama_decode(context, b) == 0, self.path
        LIB.llama_batch_free(b)

    def row(self, context, i):
        """The logits [vocabulary] f32 of token i of what was fed; -1 is the last."""
        return np.ctypeslib.as_array(LIB.llama_get_logits_ith(context, i), (self.size,))

    def logits(self, ids, adapter=None, **words):
        """[tokens, vocabulary] f32."""
        context = self.context(len(ids), adapter, **words)
        self.feed(context, ids, every=True)
        out = np.empty((len(ids), self.size), np.float32)
        for i in range(len(ids)):
            out[i] = self.row(context, i)
        LIB.llama_free(context)
        return out

    def greedy(self, ids, n, adapter=None):
        """n ids, and the logits each was taken from."""
        context = self.context(len(ids) + n, adapter)
        self.feed(context, ids)
        out, rows = [], []
        for at in range(len(ids), len(ids) + n):
            rows.append(self.row(context, -1).copy())
            out.append(int(rows[-1].argmax()))
            self.feed(context, out[-1:], at)
        LIB.llama_free(context)
        return out, rows

    def embedding(self, ids, pooling=0xFFFFFFFF):
        """The pooled vector of one sequence, not normalised, or of a reranker its score."""
        n = max(512, len(ids))
        context = self.context(n, BATCH=n, MICRO=n, POOLING=pooling)
        LIB.llama_set_embeddings(context, True)
        self.feed(context, ids, every=True)
        out = np.ctypeslib.as_array(LIB.llama_get_embeddings_seq(context, 0), (self.width,)).copy()
        LIB.llama_free(context)
        return out


def render(path, conversations):
    """The prompts that llama.cpp's server makes of lists of messages, by the file's template."""
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.warmup = str(path), 512, False
    params.verbosity = 0
    params.cpuparams.n_threads = THREADS
    server, out = xllamacpp.Server(params), []
    for messages in conversations:
        request = urllib.request.Request(
            f"{server.listening_address}/apply-template",
            json.dumps({"messages": messages}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            out.append(json.load(answer)["prompt"])
    return out
