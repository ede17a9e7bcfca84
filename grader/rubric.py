"""The rubric: base model, points, bounds and limits. One file, so that nobody has to look for a number.

The bounds of the accuracy come from grader/calibration.json, which tools/calibrate.py writes: `FULL` lies where a right
homework practically never falls below, by chance of seed and of questions together, and `ZERO` above what a model
reaches that has learned only the format.
"""

from pathlib import Path

VERSION = "2026.1"
ASSIGNMENT = "unit-conversion-sft"

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "data" / "base_model"
BASE_NAME = "data/base_model"  # what an adapter_config.json has to call it
ADAPTER_DIR = "sft_model"  # the adapter's folder in the package
REASONING_DIR = "rft_model"  # that of the adapter that reasons, which is taken and not scored yet
REASONS = "rft.json"  # its rows, taken where they are small enough, not scored
ANSWERS = "ANSWERS.md"  # the student's words, in the package: shown to staff, never scored by code
BASE_SHA256 = {
    "chat_template.jinja": "17762d2e5131cb2a950db7dd5700c50095547773d3302b52baebe9ae32257a55",
    "config.json": "2cb05ed128d04dc54ad4326945149759f301694163af86768548777db83ba900",
    "model.safetensors": "334f34bbea344885dc9bec1aad8d076512056c0fef395cfe00e9f2fa9b9b46ed",
    "tokenizer.json": "dd67b148d501a1d5d85f8476baebcc22686d515aeac1dd0c655a154c8def8bb6",
    "tokenizer_config.json": "c3f6b387081faed6001eef8503463cd6d0e8458b0aeb45a2929d6c8d73f73272",
}

# Points of the checks of the weights.
ADAPTER_PRESENT, CONFIGURED, WEIGHTS_VALID, ACCURACY = 2, 4, 4, 60

# Points of the checks of the code: each of the student's tasks, by what it does.
PARSER, GENERATE, PADDING, NUM_RETURN_SEQUENCES, ANSWER = 2, 2, 2, 1, 1
METRIC, SCORING = 2, 2
FORMAT, SUPERVISED, SPANS, TOKENIZE_STABLE, DATASET = 2, 1, 4, 1, 1
BATCH, GRADIENTS, INPUT_GRADIENTS, TRAINS = 2, 2, 1, 2
LOADS, REFUSES = 1, 1
MATCHES_WEIGHTS = 0  # a report for the staff, never a penalty
WEIGHT_POINTS = ADAPTER_PRESENT + CONFIGURED + WEIGHTS_VALID + ACCURACY
CODE_POINTS = sum((PARSER, GENERATE, PADDING, NUM_RETURN_SEQUENCES, ANSWER, METRIC, SCORING, FORMAT, SUPERVISED, SPANS,
                   TOKENIZE_STABLE, DATASET, BATCH, GRADIENTS, INPUT_GRADIENTS, TRAINS, LOADS, REFUSES,
                   MATCHES_WEIGHTS))  # fmt: skip
ALL_POINTS = WEIGHT_POINTS + CODE_POINTS

# Accuracy on held-out questions: no credit at ZERO, full credit at FULL, a straight line between.
ZERO, FULL = 0.50, 0.91
HIDDEN_QUESTIONS = 600
NOVEL_QUESTIONS = 200  # reported, never scored
MATCH_QUESTIONS = 12  # asked through the submission's own load().answer
PUBLIC_SEED = 2026

# An answer is right within 5 % of the correct one.
RELATIVE_TOLERANCE = 0.05

# Limits of a submission.
ZIP_BYTES = 50_000_000
UNPACKED_BYTES = 80_000_000
FILES = 200
CODE_BYTES = 1_000_000  # of one file that is not the adapter's weights
ANSWERS_BYTES = 100_000  # of the answers that are read
HEADER_BYTES = 1_000_000
MAX_RANK, MAX_ALPHA = 64, 1024
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
CHECK_SECONDS = 600  # a check that takes longer is stopped; the whole of it takes 15 s on two cores
