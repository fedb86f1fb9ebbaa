//! Outputs as models write them, with the option that a reader would say they name.

use weft_evals::ask::extract::{Choice, choice};

const DRUGS: &[&str] = &["Aspirin", "Warfarin", "Heparin", "Clopidogrel"];
const YES: &[&str] = &["yes", "no", "maybe"];
const VALUES: &[&str] = &["12 mmHg", "120 mmHg", "1.2 mmHg", "0.12 mmHg"];
const NESTED: &[&str] = &["Iron", "Iron deficiency", "Iron deficiency and thalassaemia", "None of the above"];
const TEN: &[&str] =
    &["Lung", "Liver", "Spleen", "Kidney", "Heart", "Brain", "Skin", "Colon", "Pancreas", "Thyroid"];

/// Options, an output, and what it names: a letter, `-` for nothing, `+` for several.
const CASES: &[(&[&str], &str, char)] = &[
    // A letter alone.
    (DRUGS, "B", 'B'),
    (DRUGS, "B.", 'B'),
    (DRUGS, " C\n", 'C'),
    (DRUGS, "(D)", 'D'),
    (DRUGS, "A", 'A'),
    (DRUGS, "A.", 'A'),
    (DRUGS, "**A**", 'A'),
    (DRUGS, "`C`", 'C'),
    (DRUGS, "[B]", 'B'),
    (DRUGS, "\"D\"", 'D'),
    (DRUGS, "B) Warfarin", 'B'),
    (DRUGS, "B. Warfarin", 'B'),
    (DRUGS, "B: Warfarin", 'B'),
    (DRUGS, "**B. Warfarin**", 'B'),
    (DRUGS, "*C*", 'C'),
    (DRUGS, "(b)", 'B'),
    (DRUGS, "C - Heparin", 'C'),
    (DRUGS, "E", '-'),
    (TEN, "J", 'J'),
    (TEN, "I", 'I'),
    (TEN, "I.", 'I'),
    (TEN, "(I) Pancreas", 'I'),
    // Boxed.
    (DRUGS, "\\boxed{B}", 'B'),
    (DRUGS, "The result is $\\boxed{C}$.", 'C'),
    (DRUGS, "\\boxed{\\text{D}}", 'D'),
    (DRUGS, "\\boxed{\\text{A. Aspirin}}", 'A'),
    (DRUGS, "\\boxed{Warfarin}", 'B'),
    (DRUGS, "We get \\[\\boxed{\\mathbf{A}}\\]", 'A'),
    (DRUGS, "First \\boxed{A}, but checking again gives \\boxed{C}.", 'C'),
    (DRUGS, "\\boxed{A, C}", '+'),
    (DRUGS, "\\boxed{A and C}", '+'),
    (DRUGS, "\\boxed{7}", '-'),
    (VALUES, "So the pressure is \\boxed{120\\text{ mmHg}}.", '-'),
    (VALUES, "So the pressure is \\boxed{\\text{120 mmHg}}.", 'B'),
    (YES, "\\boxed{\\text{maybe}}", 'C'),
    (DRUGS, "\\boxed{b}", 'B'),
    // "The answer is", in its ways.
    (DRUGS, "The answer is B.", 'B'),
    (DRUGS, "The answer is (B).", 'B'),
    (DRUGS, "The answer is: B", 'B'),
    (DRUGS, "The answer is **B**.", 'B'),
    (DRUGS, "The answer is option C.", 'C'),
    (DRUGS, "The correct answer is D", 'D'),
    (DRUGS, "The correct answer is D. Clopidogrel, which blocks P2Y12.", 'D'),
    (DRUGS, "The correct option is (A) Aspirin.", 'A'),
    (DRUGS, "The best choice is C, because heparin acts at once.", 'C'),
    (DRUGS, "Answer: A", 'A'),
    (DRUGS, "Answer: (A)", 'A'),
    (DRUGS, "**Answer:** B", 'B'),
    (DRUGS, "**Answer: B**", 'B'),
    (DRUGS, "**Answer**: B. Warfarin", 'B'),
    (DRUGS, "ANSWER: C", 'C'),
    (DRUGS, "answer: c.", 'C'),
    (DRUGS, "Answer B", 'B'),
    (DRUGS, "Answer = D", 'D'),
    (DRUGS, "Final Answer: \\boxed{D}", 'D'),
    (DRUGS, "### Final answer\n\nB", 'B'),
    (DRUGS, "### Final Answer:\n**C. Heparin**", 'C'),
    (DRUGS, "Final answer - A", 'A'),
    (DRUGS, "Therefore, the answer would be B.", 'B'),
    (DRUGS, "So the answer must be C.", 'C'),
    (DRUGS, "The answer is therefore A.", 'A'),
    (DRUGS, "The answer is most likely D.", 'D'),
    (DRUGS, "My answer: B", 'B'),
    (DRUGS, "The answer to this question is C.", 'C'),
    (DRUGS, "I choose B.", 'B'),
    (DRUGS, "I would go with D.", 'D'),
    (DRUGS, "I'd choose option A.", 'A'),
    (DRUGS, "I pick C", 'C'),
    (DRUGS, "The answer is Warfarin.", 'B'),
    (DRUGS, "The answer is heparin, which acts at once.", 'C'),
    (DRUGS, "Answer: \"Clopidogrel\"", 'D'),
    (DRUGS, "The answer is A because aspirin blocks COX-1.", 'A'),
    (DRUGS, "The correct letter is B.", 'B'),
    (DRUGS, "Conclusion: C", 'C'),
    (YES, "The answer is yes.", 'A'),
    (YES, "Answer: no", 'B'),
    (YES, "Final answer: **maybe**", 'C'),
    (YES, "Answer: B. no", 'B'),
    (VALUES, "The answer is 120 mmHg.", 'B'),
    (VALUES, "Answer: 1.2 mmHg", 'C'),
    (TEN, "The answer is (J).", 'J'),
    (TEN, "the answer is (h)", 'H'),
    (TEN, "The answer is I.", 'I'),
    (TEN, "The answer is I think D.", 'D'),
    // Said to be right.
    (DRUGS, "B is correct.", 'B'),
    (DRUGS, "Option B is correct.", 'B'),
    (DRUGS, "(C) is the correct answer.", 'C'),
    (DRUGS, "**D. Clopidogrel** is the best choice here.", 'D'),
    (DRUGS, "Warfarin is the correct choice.", 'B'),
    (DRUGS, "Option A is right.", 'A'),
    (DRUGS, "Looking at all, option C is the most suitable.", 'C'),
    // Corrected: the last counts.
    (DRUGS, "The answer is A. Wait, no. The answer is B.", 'B'),
    (DRUGS, "Answer: A\n\nOn reflection that is wrong.\n\nAnswer: D", 'D'),
    (DRUGS, "\\boxed{A}\n\nActually, the correct answer is C.", 'C'),
    (DRUGS, "I first thought the answer is C, but the correct answer is B.", 'B'),
    (DRUGS, "Option A is correct. Hmm, let me check. Option D is correct.", 'D'),
    // Turned down.
    (DRUGS, "The answer is not A. The answer is C.", 'C'),
    (DRUGS, "The answer is C. The answer is not A.", 'C'),
    (DRUGS, "Answer A is wrong, and so is B.\nAnswer: D", 'D'),
    (DRUGS, "Answer: D\nAnswer A is wrong, since aspirin is no anticoagulant.", 'D'),
    (DRUGS, "A is not the answer.\nB is incorrect.\nThe correct answer is D.", 'D'),
    // Lists of all options, with an answer behind or without.
    (DRUGS, "A. Aspirin: no.\nB. Warfarin: slow.\nC. Heparin: fast.\nD. Clopidogrel: no.\n\nAnswer: C", 'C'),
    (
        DRUGS,
        "A. Aspirin is wrong.\nB. Warfarin is wrong.\nC. Heparin is correct.\nD. Clopidogrel is wrong.",
        'C',
    ),
    (DRUGS, "A. Aspirin\nB. Warfarin\nC. Heparin\nD. Clopidogrel", '-'),
    (DRUGS, "A. 100 degrees\nB. 150 degrees\nC. 200 degrees\nD. 250 degrees", '-'),
    (DRUGS, "- A) Aspirin\n- B) Warfarin\n- C) Heparin\n- D) Clopidogrel", '-'),
    (DRUGS, "1. Aspirin blocks platelets.\n2. Warfarin is slow.\n3. Heparin acts at once.\n\nSo: C", 'C'),
    (DRUGS, "Let us go through them.\n\n- A: wrong\n- B: wrong\n- C: wrong\n- D: right\n\n**D**", 'D'),
    (DRUGS, "Options: A, B, C, D", '-'),
    // Begins with the letter, then explains.
    (DRUGS, "B. Warfarin inhibits the recycling of vitamin K.", 'B'),
    (DRUGS, "C\n\nHeparin binds antithrombin.", 'C'),
    (DRUGS, "(A) Because it blocks COX-1 for the life of the platelet.", 'A'),
    (DRUGS, "**D**\n\nIt blocks P2Y12 receptors.", 'D'),
    (DRUGS, "B, since vitamin K is needed for factors II, VII, IX and X.", 'B'),
    // Bold somewhere.
    (DRUGS, "Given the INR, **B** fits. It takes days to act.", 'B'),
    (DRUGS, "All of it points to **C. Heparin** in this patient, which acts at once.", 'C'),
    (DRUGS, "We think **(D)** fits and nothing else does.", 'D'),
    (DRUGS, "The **patient** has a **clot**, so we give **A**", 'A'),
    // An option's text alone.
    (DRUGS, "Warfarin", 'B'),
    (DRUGS, "Heparin.", 'C'),
    (DRUGS, "clopidogrel", 'D'),
    (DRUGS, "It must be aspirin.", 'A'),
    (DRUGS, "The drug in question inhibits factor Xa indirectly. This is heparin.", 'C'),
    (DRUGS, "Aspirin and warfarin both thin the blood.", 'A'),
    (DRUGS, "Both warfarin and heparin thin the blood.", '-'),
    (YES, "Yes, the trial shows a clear effect.", 'A'),
    (YES, "No. There was no difference between the groups.", 'B'),
    (YES, "Maybe: the sample was small.", 'C'),
    (YES, "no", 'B'),
    (NESTED, "Iron deficiency", 'B'),
    (NESTED, "The answer is iron deficiency and thalassaemia.", 'C'),
    (NESTED, "Her blood shows iron deficiency.", 'B'),
    (NESTED, "None of the above", 'D'),
    (NESTED, "The answer is none of the above.", 'D'),
    (VALUES, "We divide 1440 by 12. That makes 120 mmHg", 'B'),
    (VALUES, "0.12 mmHg", 'D'),
    (VALUES, "12 mmHg.", 'A'),
    // A lone letter in the last sentence.
    (DRUGS, "The patient needs something that acts at once. Hence C.", 'C'),
    (DRUGS, "It all comes down to B", 'B'),
    (DRUGS, "Vitamin K is needed. So it has to be D!", 'D'),
    (DRUGS, "A patient with a clot needs help.", '-'),
    (TEN, "I do not know.", '-'),
    // Two answers.
    (DRUGS, "The answer is A and C.", '+'),
    (DRUGS, "The answer is B or D.", '+'),
    (DRUGS, "Answer: A, C", '+'),
    (DRUGS, "Answer: A/B", '+'),
    (DRUGS, "The correct answer is (B) and (C).", '+'),
    (DRUGS, "A and B", '+'),
    (DRUGS, "B, C", '+'),
    (DRUGS, "Answer: B. Warfarin or C. Heparin", '+'),
    (DRUGS, "The answer is B, and A is wrong.", 'B'),
    (DRUGS, "The answer is B, C is too slow.", 'B'),
    // No answer.
    (DRUGS, "", '-'),
    (DRUGS, "   \n ", '-'),
    (DRUGS, "I'm sorry, but I can't help with that.", '-'),
    (DRUGS, "I cannot answer this without more information.", '-'),
    (DRUGS, "As an AI I can give no medical advice. Please see a doctor.", '-'),
    (DRUGS, "It is impossible to tell from what is given.", '-'),
    (DRUGS, "None of these options fits.", '-'),
    (DRUGS, "Could you tell me the patient's INR first?", '-'),
    (DRUGS, "The answer is", '-'),
    (DRUGS, "Answer:", '-'),
    (DRUGS, "The answer is 42.", '-'),
    (DRUGS, "The answer is a drug that thins the blood.", '-'),
    (DRUGS, "The answers are hard to tell apart.", '-'),
    (DRUGS, "The answer is E.", '-'),
    (YES, "It depends.", '-'),
    (TEN, "I think the question is wrong.", '-'),
    // Thinking.
    (DRUGS, "<think>\nMaybe A? The answer is A.\n</think>\n\nThe answer is B.", 'B'),
    (DRUGS, "<think>The answer is A.</think>C", 'C'),
    (DRUGS, "<think>\nThe answer is A. But wait", '-'),
    (DRUGS, "thinking without a beginning: A\n</think>\n\nAnswer: D", 'D'),
    (DRUGS, "<think>\n\n</think>\n\nB", 'B'),
    (DRUGS, "<think>\nThe answer is B.\n</think>\n\nI am not sure.", '-'),
    (DRUGS, "<think>a</think>Answer: A<think>b</think>Answer: C", 'C'),
    // As real models put it.
    (
        DRUGS,
        "Based on the presentation, the most appropriate therapy is:\n\n**C. Heparin**\n\nExplanation: it acts at once.",
        'C',
    ),
    (
        DRUGS,
        "Let's analyze step by step.\n\nStep 1: The INR is 1.\nStep 2: Speed matters.\n\nTherefore, the correct answer is **C. Heparin**.",
        'C',
    ),
    (DRUGS, "Sure! The correct answer is option B) Warfarin. Let me know if you have more questions!", 'B'),
    (DRUGS, "The answer is $B$.", 'B'),
    (DRUGS, "The answer is \\( \\boxed{B} \\).", 'B'),
    (DRUGS, "Answer: B</s>", 'B'),
    (DRUGS, "Answer:\n\nB", 'B'),
    (DRUGS, "> **Answer:** D", 'D'),
    (DRUGS, "Thus the final answer is:\n\n(B) Warfarin", 'B'),
    (DRUGS, "{\"answer\": \"C\"}", 'C'),
    (DRUGS, "The correct answer choice is D.", 'D'),
];

#[test]
fn outputs_of_real_shape_are_read_as_a_person_reads_them() {
    assert!(CASES.len() >= 150, "{} cases", CASES.len());
    let mut wrong = Vec::new();
    for (options, text, want) in CASES {
        let options: Vec<String> = options.iter().map(|s| (*s).to_owned()).collect();
        let got = choice(text, &options);
        let have = match got.choice {
            Choice::One(i) => (b'A' + i as u8) as char,
            Choice::Several => '+',
            Choice::None => '-',
        };
        if have != *want {
            wrong.push(format!("{have} by \"{}\" where {want} is right: {text:?}", got.rule));
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

/// Any text gives a reading, and none panics on letters of several bytes.
#[test]
fn any_text_is_read() {
    let options: Vec<String> = ["é", "ß.", "", "A"].map(str::to_owned).to_vec();
    let pieces = [
        "answer is ",
        "boxed{",
        "**",
        "é",
        "A",
        "\n",
        "is correct",
        " and ",
        "(",
        "中",
        "</think>",
        "I",
        "'",
    ];
    let mut rng = weft_evals::hash::Rng::new(7);
    for _ in 0..20_000 {
        let text: String = (0..rng.below(12)).map(|_| pieces[rng.below(pieces.len())]).collect();
        let _ = choice(&text, &options);
    }
}
