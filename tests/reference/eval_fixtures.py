#!/usr/bin/env python3
"""Writes evals/tests/data: small files with the columns of published test sets, and questions of our own in them.

    pip install pyarrow==26.0.1
    python tests/reference/eval_fixtures.py

Tables are Parquet as the hubs write it (snappy), others CSV, JSON or lines of JSON. Nothing is taken from the sets.
"""

import csv
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

OUT = pathlib.Path(__file__).parents[2] / "evals" / "tests" / "data"

# Question, four options, the right one, a subject.
OURS = [
    ("Which organ filters blood into urine?", ["Liver", "Kidney", "Spleen", "Heart"], 1, "anatomy"),
    ("Which vitamin do the factors that warfarin lowers need?", ["A", "C", "D", "K"], 3, "clinical_knowledge"),
    ("How many chambers has a human heart?", ["Two", "Three", "Four", "Five"], 2, "anatomy"),
    ("Which base pairs with adenine in DNA?", ["Thymine", "Uracil", "Guanine", "Cytosine"], 0, "medical_genetics"),
    ("Which planet is nearest to the sun?", ["Venus", "Mercury", "Mars", "Earth"], 1, "astronomy"),
]


def table(path, rows):
    path = OUT / path
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, compression="snappy")


def lines(path, rows):
    path = OUT / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))


def separated(path, names, rows):
    with open(OUT / path, "w", newline="") as f:
        writer = csv.writer(f)
        if names:
            writer.writerow(names)
        writer.writerows(rows)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    letters = "ABCDEFGHIJ"
    table("mmlu/test.parquet", [{"question": q, "subject": s, "choices": o, "answer": r} for q, o, r, s in OURS])
    separated("anatomy_test.csv", None, [[q, *o, letters[r]] for q, o, r, s in OURS if s == "anatomy"])
    names = ["sample_id", "question", "question_clean", "answer_options", "correct_answer", "question_type", "specialty"]
    rows = [
        [f"s{i}", "Q: " + q, q, json.dumps({f"option{k + 1}": t for k, t in enumerate(o)}), f"option{r + 1}", "mcq", s]
        for i, (q, o, r, s) in enumerate(OURS)
    ]
    rows.append(["s9", "Q", "Which two are fruits?", rows[0][3], "option1,option2", "mcq", "botany"])
    rows.append(["s10", "Q", "Explain the heart.", "", "", "saq", "cardiology"])
    separated("afrimedqa.csv", names, rows)
    padded = [
        {"question_id": 70 + i, "question": q, "options": o + ["N/A"] * (10 - len(o)), "answer": letters[r],
         "answer_index": r, "cot_content": "", "category": "health" if i else "law", "src": "ours"}
        for i, (q, o, r, s) in enumerate(OURS)
    ]
    table("mmlu-pro.parquet", padded)
    table("medmcqa.parquet", [
        {"id": f"m{i}", "question": q, "opa": o[0], "opb": o[1], "opc": o[2], "opd": o[3], "cop": r,
         "choice_type": "single", "exp": None, "subject_name": s, "topic_name": None}
        for i, (q, o, r, s) in enumerate(OURS)
    ])
    lines("medqa.jsonl", [
        {"question": q, "answer": o[r], "options": dict(zip(letters, o)), "meta_info": "step1",
         "answer_idx": letters[r], "metamap_phrases": []}
        for q, o, r, s in OURS
    ])
    lines("medxpertqa.jsonl", [
        {"id": f"Text-{i}", "question": q + "\nAnswer Choices: " + " ".join(f"({a}) {t}" for a, t in zip(letters, o)),
         "options": dict(zip(letters, o)), "label": letters[r], "medical_task": "Diagnosis",
         "body_system": "Urinary", "question_type": "Reasoning"}
        for i, (q, o, r, s) in enumerate(OURS)
    ])
    decisions = ["yes", "no", "maybe"]
    abstracts = [["Forty people took part.", f"Result {i} was seen."] for i in range(3)]
    table("pubmedqa.parquet", [
        {"pubid": 100 + i, "question": f"Does drug {i} help?", "long_answer": "It may.",
         "context": {"contexts": a, "labels": ["METHODS", "RESULTS"], "meshes": ["Drugs"]},
         "final_decision": d}
        for i, (a, d) in enumerate(zip(abstracts, decisions))
    ])
    (OUT / "ori_pqal.json").write_text(json.dumps({
        str(100 + i): {"QUESTION": f"Does drug {i} help?", "CONTEXTS": a, "LABELS": ["METHODS", "RESULTS"],
                       "MESHES": ["Drugs"], "LONG_ANSWER": "It may.", "final_decision": d}
        for i, (a, d) in enumerate(zip(abstracts, decisions))
    }))
    numbers = ["1", "2", "3", "4"]
    table("arc/ARC-Challenge/test.parquet", [
        {"id": f"arc{i}", "question": q, "choices": {"text": o, "label": numbers if i == 1 else list("ABCD")},
         "answerKey": (numbers if i == 1 else letters)[r]}
        for i, (q, o, r, s) in enumerate(OURS)
    ])
    lines("arc.jsonl", [
        {"id": f"arc{i}", "question": {"stem": q, "choices": [{"text": t, "label": a} for t, a in zip(o, letters)]},
         "answerKey": letters[r]}
        for i, (q, o, r, s) in enumerate(OURS)
    ])
    separated(
        "gpqa_diamond.csv",
        ["Record ID", "Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3",
         "High-level domain"],
        [[f"rec{i}", q, o[r], *(t for k, t in enumerate(o) if k != r), "Biology"] for i, (q, o, r, s) in enumerate(OURS)],
    )
    lines("healthbench.jsonl", [
        {"prompt_id": "p1", "prompt": [{"role": "user", "content": "My chest hurts. What now?"}],
         "example_tags": ["theme:emergency_referrals"],
         "rubrics": [
             {"criterion": "Tells the person to call an ambulance", "points": 10, "tags": ["axis:accuracy"]},
             {"criterion": "Asks how long it has hurt", "points": 5, "tags": ["axis:context_awareness"]},
             {"criterion": "Says that it is surely nothing", "points": -8, "tags": ["axis:accuracy"]},
         ]},
        {"prompt_id": "p2", "prompt": [{"role": "user", "content": "Is tea healthy?"},
                                       {"role": "assistant", "content": "Which tea?"},
                                       {"role": "user", "content": "Green tea."}],
         "example_tags": ["theme:global_health"],
         "rubrics": [
             {"criterion": "Says that green tea is safe for most people", "points": 4, "tags": ["axis:accuracy"]},
             {"criterion": "Claims that it cures cancer", "points": -6, "tags": ["axis:accuracy", "level:example"]},
         ]},
    ])


if __name__ == "__main__":
    main()
