#!/usr/bin/env python3
"""Writes evals/data/passages.jsonl, 200 passages about things that do not exist, and evals/data/questions.jsonl, a
question about each in other words. Both are dedicated to the public domain (CC0 1.0).

    python tests/reference/genesis_passages.py

Nobody can know the answers without having read them, so what a model gains from training on what `weft genesis`
makes of these passages is what it learnt. Passages of one kind have the same facts in the same order; facts are what
the teacher `rules` makes questions of.
"""

import json
import pathlib
import random

OUT = pathlib.Path(__file__).parents[2] / "evals" / "data"
EACH = 20

START = "Al Bor Cal Dem Er Fen Gol Har Il Jor Kel Lum Mar Nor Os Pel Quen Ros Sel Tor Ul Ven Wes Yar Zan".split()
MIDDLE = "a e i o u an en il or ur".split()
END = "dale mere vik ta lon ris nak beth mont rel sha dor quin vey pol thas gar lin".split()
REGIONS = ["the Hollow Coast", "Upper Tarn", "the Salt Marches", "Eastern Velm", "the Grey Uplands", "Lower Sarn",
           "the Amber Plain", "the Reed Country"]
COLOURS = ["copper red", "pale violet", "slate blue", "bright yellow", "moss green", "chalk white", "deep orange",
           "silver grey"]
PEOPLE = ["Ida Quell", "Tomas Berrin", "Oda Varnish", "Piet Lorrimer", "Hanne Salk", "Rufus Dray", "Mila Estor",
          "Jonas Wick", "Vera Calloway", "Anton Frey"]
SEASONS = ["in early spring", "at midsummer", "in late autumn", "in the depth of winter"]
MATERIALS = ["black basalt", "river clay", "larch wood", "green marble", "iron from old ships", "limestone", "willow",
             "cast bronze"]


def number(rng, low, high, step, unit):
    return f"{rng.randrange(low, high, step):,} {unit}"


# Kind: how it is called, what opens its passage, and for each fact: the question, another question for the same, two
# sentences that state it, and the value.
KINDS = {
    "mountain": ("Mount {n}", ["{N} can be seen from far away on clear days.", "Few climbers have heard of {N}."], [
        ("How high is {N}?", "To what height does {N} rise?", ["It rises to {v}.", "Its summit lies at {v}."],
         lambda r: number(r, 1100, 4900, 10, "metres")),
        ("In which region does {N} stand?", "Where would you travel to see {N}?",
         ["It stands in {v}.", "Travellers find it in {v}."], lambda r: r.choice(REGIONS)),
        ("Who first climbed {N}?", "Whose was the first ascent of {N}?",
         ["{v} was the first to stand on top.", "The first ascent was made by {v}."], lambda r: r.choice(PEOPLE)),
        ("When is {N} free of snow?", "What time of year finds {N} without snow?",
         ["Snow leaves it only {v}.", "It is free of snow {v}."], lambda r: r.choice(SEASONS)),
    ]),
    "river": ("the river {n}", ["Boatmen speak of {N} with respect.", "{N} has changed its bed more than once."], [
        ("How long is {N}?", "What distance does {N} run from its source to the sea?",
         ["From source to sea it runs {v}.", "Its length is {v}."], lambda r: number(r, 90, 1400, 5, "kilometres")),
        ("Through which region does {N} flow?", "Which country does {N} water?",
         ["It flows through {v}.", "Its valley lies in {v}."], lambda r: r.choice(REGIONS)),
        ("What colour is the water of {N}?", "How does the water of {N} look?",
         ["Its water is {v} from what it carries.", "The silt turns it {v}."], lambda r: r.choice(COLOURS)),
        ("When does {N} flood?", "At what time of year does {N} leave its banks?",
         ["It floods {v}.", "It leaves its banks {v}."], lambda r: r.choice(SEASONS)),
    ]),
    "plant": ("the herb {n}wort", ["Gardeners prize {N}.", "{N} grows where little else does."], [
        ("What colour are the flowers of {N}?", "How do the blossoms of {N} look?",
         ["Its flowers are {v}.", "It opens blossoms of {v}."], lambda r: r.choice(COLOURS)),
        ("What is {N} used against?", "Which complaint do people treat with {N}?",
         ["People brew it against {v}.", "A tea of it is drunk for {v}."],
         lambda r: r.choice(["hiccups", "chilblains", "sore throats", "travel sickness", "toothache", "poor sleep",
                             "stiff joints", "nettle stings"])),
        ("When does {N} flower?", "In which season is {N} in bloom?", ["It flowers {v}.", "It is in bloom {v}."],
         lambda r: r.choice(SEASONS)),
        ("How tall does {N} grow?", "What height does {N} reach?", ["It grows to {v}.", "It reaches {v}."],
         lambda r: number(r, 10, 190, 5, "centimetres")),
    ]),
    "bird": ("the {n} finch", ["{N} is shy and easily missed.", "Bird watchers travel far for {N}."], [
        ("What colour is the crest of {N}?", "How is the crest of {N} coloured?",
         ["Its crest is {v}.", "On its head it wears a crest of {v}."], lambda r: r.choice(COLOURS)),
        ("How many eggs does {N} lay?", "What is the size of a clutch of {N}?",
         ["It lays {v}.", "A clutch has {v}."], lambda r: f"{r.choice(['two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine'])} eggs"),
        ("What does {N} eat?", "On what does {N} feed?", ["It eats {v}.", "It lives on {v}."],
         lambda r: r.choice(["thistle seeds", "water beetles", "juniper berries", "ant larvae", "snails", "pine nuts",
                             "moths", "crowberries"])),
        ("Where does {N} spend the winter?", "To which region does {N} go when it gets cold?",
         ["It spends the winter in {v}.", "When it gets cold it flies to {v}."], lambda r: r.choice(REGIONS)),
    ]),
    "mineral": ("the mineral {n}ite", ["{N} was long taken for something else.", "Collectors pay well for {N}."], [
        ("What colour is {N}?", "Which colour tells {N} from its like?", ["It is {v}.", "Its crystals are {v}."],
         lambda r: r.choice(COLOURS)),
        ("At what temperature does {N} melt?", "How hot must {N} be to melt?",
         ["It melts at {v}.", "Heated to {v}, it melts."], lambda r: number(r, 310, 2400, 10, "degrees")),
        ("Who described {N} first?", "Whose name stands on the first description of {N}?",
         ["{v} described it first.", "The first description is by {v}."], lambda r: r.choice(PEOPLE)),
        ("In which region is {N} mined?", "Where do miners dig for {N}?", ["It is mined in {v}.", "The only mines are in {v}."],
         lambda r: r.choice(REGIONS)),
    ]),
    "town": ("the town of {n}", ["{N} is small and proud.", "Visitors to {N} stay longer than they meant to."], [
        ("How many people live in {N}?", "What is the population of {N}?", ["It has {v}.", "At the last count it had {v}."],
         lambda r: number(r, 900, 48000, 50, "inhabitants")),
        ("Who founded {N}?", "To whom does {N} owe its beginning?", ["{v} founded it.", "It was founded by {v}."],
         lambda r: r.choice(PEOPLE)),
        ("What are the houses of {N} built of?", "Which material do builders in {N} use?",
         ["Its houses are built of {v}.", "Builders there use {v}."], lambda r: r.choice(MATERIALS)),
        ("When is the market of {N} held?", "At what time of year does {N} have its market?",
         ["Its market is held {v}.", "The great market takes place {v}."], lambda r: r.choice(SEASONS)),
    ]),
    "bridge": ("the {n} bridge", ["{N} is on every postcard.", "Engineers come to measure {N}."], [
        ("How long is {N}?", "What span does {N} cover?", ["It is {v} long.", "It covers {v}."],
         lambda r: number(r, 40, 900, 4, "metres")),
        ("Who designed {N}?", "Whose design is {N}?", ["{v} designed it.", "The plans were drawn by {v}."],
         lambda r: r.choice(PEOPLE)),
        ("What is {N} made of?", "Which material carries {N}?", ["It is made of {v}.", "Its arches are of {v}."],
         lambda r: r.choice(MATERIALS)),
        ("In which year was {N} opened?", "Since when has {N} carried traffic?",
         ["It was opened in the year {v}.", "Traffic has crossed it since {v}."], lambda r: str(r.randrange(1702, 1950))),
    ]),
    "instrument": ("the {n} lute", ["The sound of {N} carries over water.", "Only a few people still play {N}."], [
        ("How many strings has {N}?", "With what number of strings is {N} strung?", ["It has {v}.", "A player tunes {v}."],
         lambda r: f"{r.choice(['five', 'seven', 'eight', 'nine', 'eleven', 'thirteen', 'fifteen', 'nineteen'])} strings"),
        ("What is {N} made of?", "Which material is {N} built from?", ["It is made of {v}.", "Makers build it from {v}."],
         lambda r: r.choice(MATERIALS)),
        ("Who invented {N}?", "Whose invention is {N}?", ["{v} invented it.", "It is the invention of {v}."],
         lambda r: r.choice(PEOPLE)),
        ("When is {N} played?", "In which season do people play {N}?", ["It is played {v}.", "Custom allows it only {v}."],
         lambda r: r.choice(SEASONS)),
    ]),
    "dish": ("{n} stew", ["No two families cook {N} alike.", "Guests are always offered {N}."], [
        ("How long does {N} cook?", "For what time must {N} stay on the fire?",
         ["It cooks for {v}.", "It stays on the fire for {v}."], lambda r: number(r, 25, 600, 5, "minutes")),
        ("What gives {N} its colour?", "What makes {N} look as it does?",
         ["Its colour comes from {v}.", "It is coloured with {v}."],
         lambda r: r.choice(["beetroot", "saffron", "squid ink", "spinach", "burnt sugar", "red cabbage", "turmeric",
                             "elderberries"])),
        ("In which region is {N} eaten?", "Where does {N} come from?", ["It is eaten in {v}.", "Its home is {v}."],
         lambda r: r.choice(REGIONS)),
        ("When is {N} served?", "At what time of year does {N} come to the table?", ["It is served {v}.", "It comes to the table {v}."],
         lambda r: r.choice(SEASONS)),
    ]),
    "beetle": ("the {n} beetle", ["{N} is no larger than a grain of rice.", "Children collect {N}."], [
        ("What colour are the wings of {N}?", "How are the wings of {N} coloured?", ["Its wings are {v}.", "It has wings of {v}."],
         lambda r: r.choice(COLOURS)),
        ("What do the larvae of {N} eat?", "On what do the young of {N} live?", ["Its larvae eat {v}.", "The young live on {v}."],
         lambda r: r.choice(["rotten oak", "mushrooms", "book paste", "wool", "dung", "water lilies", "beeswax", "moss"])),
        ("Who discovered {N}?", "To whom do we owe the discovery of {N}?", ["{v} discovered it.", "It was discovered by {v}."],
         lambda r: r.choice(PEOPLE)),
        ("How many days does {N} live?", "What is the span of life of {N}?", ["It lives for {v}.", "Its life lasts {v}."],
         lambda r: f"{r.randrange(4, 140, 2)} days"),
    ]),
}
JOINS = ["", "Unlike its neighbours, it is well documented. ", "What is known is soon told. ",
         "Most of this was written down by travellers. ", "The records agree on this. "]


def capital(text):
    return text[0].upper() + text[1:]


def main():
    rng = random.Random(20261129)
    names, passages, questions = set(), [], []
    for kind, (called, openings, facts) in KINDS.items():
        things = []
        for _ in range(EACH):
            while (n := rng.choice(START) + rng.choice(MIDDLE) + rng.choice(END)) in names:
                pass
            names.add(n)
            things.append((n, [value(rng) for *_, value in facts]))
        for i, (n, values) in enumerate(things):
            name = called.format(n=n)
            parts = [rng.choice(said).format(v=v) for (_, _, said, _), v in zip(facts, values)]
            order = rng.sample(range(4), 4)
            text = rng.choice(openings).format(N=name) + " " + rng.choice(JOINS) + " ".join(parts[k] for k in order)
            text = ". ".join(capital(s) for s in text.split(". "))
            asked = [[q.format(N=name), v] for (q, *_), v in zip(facts, values)]
            passages.append({"id": f"{kind}-{i:02}", "kind": kind, "name": name, "text": text, "facts": asked})
            k = rng.randrange(4)
            others = sorted({t[1][k] for t in things} - {values[k]})
            options = rng.sample(others, 3)
            right = rng.randrange(4)
            options.insert(right, values[k])
            questions.append({"id": f"{kind}-{i:02}", "subject": kind, "question": facts[k][1].format(N=name),
                              "options": options, "answer": right})
    OUT.mkdir(parents=True, exist_ok=True)
    for file, rows in [("passages.jsonl", passages), ("questions.jsonl", questions)]:
        (OUT / file).write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


if __name__ == "__main__":
    main()
