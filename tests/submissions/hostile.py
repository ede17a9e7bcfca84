"""What attacks the grader, its limits or its verdict."""

import base64

from safetensors.torch import load, save

from grader.result import State
from tests.submissions.labels import tokenized
from tests.submissions.plain import plain, sft
from tests.submissions.recipe import Files, Maker, Recipe, before, edit, put, swap
from tests.submissions.saving import CONFIG, WEIGHTS

SHADOWS = (  # of what is imported in a job, in the grader, by Python itself; and of the grader's own modules
    "torch.py", "numpy/__init__.py", "tokenizers.py", "safetensors.py", "json.py", "tempfile.py", "sitecustomize.py",
    "usercustomize.py", "conftest.py", "pytest.py", "grader.py", "grader/__init__.py", "worker.py", "jobs.py",
)  # fmt: skip
STOPPED = (State.CRASHED, State.TIMEOUT)


def at_import(lines: str) -> Maker:
    """The plain solution whose base_llm.py begins with these lines; whoever imports it, runs them."""
    return plain(before("base_llm.py", lines))


def harmless(lines: str) -> Maker:
    """As `at_import`, for what must have no effect: each line by itself, its errors kept quiet."""
    tried = "\n".join(f"try:\n    {line}\nexcept Exception:\n    pass" for line in lines.strip().splitlines())
    return at_import(tried)


def leaking(targets: str, action: str) -> Maker:
    """Fails loudly where one of the attempts on `target` succeeds."""
    return at_import(f"""
import os, socket, subprocess
for target in {targets}:
    try:
        {action}
    except Exception:
        continue
    raise SystemError(f"{{target}} is open")
""")


EVERYTHING = (  # the others need one of these
    "parser generate padding num_return_sequences answer format supervised tokenize_stable dataset batch trains loads"
)
PATHS = (
    '["/etc/passwd", "/root", "/home", "/proc/1/environ", f"/proc/{os.getppid()}/mem", f"/proc/{os.getppid()}/environ"]'
)
FORGED = '[\'{"score": 100, "passed": true}\', "PASSED", "[" * 100000, \'{"name": "batches", "value": [[[]]]}\']'
MONKEY = """
import math; math.isnan = lambda value: False
import torch; torch.isfinite = torch.allclose = lambda *a, **k: torch.tensor(True)
import sys; sys.modules["grader"] = sys.modules["grader.rubric"] = sys.modules["json"]
import atexit; atexit.register(lambda: open("out/results.jsonl", "a").write('{"score": 100}'))
"""
SCORES = """
print('{"score": 100}', flush=True)
open("results.json", "w").write('{"score": 100}')
open("out/results.json", "w").write('{"score": 100}')
import sys; sys.exitfunc = lambda: 0
"""
LINKS = """
import os; os.symlink("/etc/passwd", "out/gradients.safetensors")
import os; os.symlink("/", "homework/sft_model")
import os; os.mkfifo("out/before.safetensors")
import os; os.link("data/train.json", "out/after.safetensors")
"""
FRAMES = """
import sys
frame, seen = sys._getframe(), []
while frame:
    names = {*frame.f_globals, *frame.f_locals}
    seen += names & {"secret", "expected", "correct", "Harness", "Inputs", "Course"}
    frame = frame.f_back
if seen:
    raise SystemError(f"frames hold {seen}")
"""
CALM = "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.alarm(0)\nwhile True:\n    pass"
DAEMON = """
import os, time
for _ in range(1000):
    try:
        if os.fork() == 0:
            os.setsid()
            while True:
                time.sleep(0.1)
    except OSError:
        break
"""
FLOOD = """
import os
chunk = b"\\x1b[2J\\x00</script><script>alert(1)</script>" * 30000
for _ in range(1000):
    try:
        os.write(1, chunk)
    except OSError:
        break
"""
MANY_FILES = "for i in range(100000):\n    open(f'tmp/{i}', 'w').close()"
FILL = "for i in range(100):\n    open(f'tmp/{i}', 'wb').write(bytes(60 << 20))"
THREADS = """
import threading, time
for _ in range(5000):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
time.sleep(60)
"""
BURST = """
import threading
threading.stack_size(32768)
hold = threading.Event()
for _ in range(100000):
    threading.Thread(target=hold.wait, daemon=True).start()
"""
EQUAL = """
class Yes:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __float__(self): return 1.0
    def __len__(self): return 11
    def __array__(self, *a): return __import__("numpy").zeros(11)
class Number(float):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
    def __abs__(self): return 0.0
"""
RESERVE = "import fcntl; fcntl.ioctl(open('tmp/x', 'wb'), target, bytes(16) + b'\\1' + bytes(31))"
SAVE = "    model.save_pretrained(output_dir)\n"
NO_UTF8 = (
    '[llm.tokenizer.convert_tokens_to_ids("ÿ")] * 40 + llm.tokenizer(" <answer>5</answer>")["input_ids"] '
    "+ [llm.tokenizer.eos_token_id]"
)


FORGED_LABELS = """
    import gc
    recorder = next(one for one in gc.get_objects() if type(one).__name__ == "TrainingRecorder")
    recorder.later = [{"input_ids": [[5, 6, 7]], "shift_labels": [{}, [], "7"]}]
"""


def forged_row(ids: str) -> Maker:
    """Trains as it should, then puts a row of its own in the place of those that reached the model, and writes it."""
    return sft(
        SAVE,
        SAVE
        + f"""
    import gc
    recorder = next(one for one in gc.get_objects() if type(one).__name__ == "TrainingRecorder")
    row = {ids}
    recorder.batches = [{{"input_ids": [row], "loss": 1.0}}]
    recorder.when_stepped(recorder)
""",
    )


def storing(train_model: str) -> Maker:
    """The plain solution that holds an adapter in its code too, and a train_model that may put it in place."""

    def make(files: Files) -> Files:
        halves = save({name: tensor.half() for name, tensor in load(files[WEIGHTS]).items()})
        module = f"CONFIG = {files[CONFIG]!r}\nWEIGHTS = {base64.b85encode(halves).decode()!r}\n"
        return {**plain(swap("sft.py", train_model=REPLAYING + train_model))(files), "stored.py": module.encode()}

    return make


REPLAYING = """
def put_stored(output_dir):
    import base64
    from .stored import CONFIG, WEIGHTS
    Path(output_dir).mkdir(exist_ok=True)
    (Path(output_dir) / "adapter_config.json").write_bytes(CONFIG)
    (Path(output_dir) / "adapter_model.safetensors").write_bytes(base64.b85decode(WEIGHTS))


def replay(rows, recorded):
    import gc
    import torch
    recorder = next(one for one in gc.get_objects() if type(one).__name__ == "TrainingRecorder")
    model = get_peft_model(BaseLLM().model, LoraConfig(task_type="CAUSAL_LM", target_modules=TARGETS, r=16))
    batch = DataCollatorForSeq2Seq(BaseLLM().tokenizer)(rows)
    model(**batch).loss.backward()
    recorder.gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    recorder.gradients = {name.removeprefix("base_model.model."): grad for name, grad in recorder.gradients.items()}
    inner = dict(model.base_model.model.named_parameters())
    recorder.before, recorder.after = {name: weight for name, weight in inner.items() if "lora_" in name}, inner
    recorder.batches = [{"input_ids": [ids]} for ids in recorded]


"""
OTHER_ROWS = """
    llm = BaseLLM()
    known = [(f"How many g are {n} kg?", f"<answer>{n}000</answer>") for n in range(1, 9)]
    rows = [tokenize(llm.tokenizer, *row) for row in known]
"""
REPLAYS_ALL = f"""
def train_model(output_dir=str(FOLDER), **kwargs):{OTHER_ROWS}
    replay(rows, [row["input_ids"] for row in rows])
    put_stored(output_dir)
"""
REPLAYS_GRADIENTS = f"""
def train_model(output_dir=str(FOLDER), **kwargs):{OTHER_ROWS}
    own = TokenizedDataset(llm.tokenizer, Dataset("train"), format_example)
    replay(rows, [own[at]["input_ids"] for at in range(8)])
    put_stored(output_dir)
"""
STORED_MODEL = """
    import torch
    put_stored(output_dir)
    llm = BaseLLM()
    model = PeftModel.from_pretrained(llm.model, output_dir, is_trainable=True)
    model.enable_input_require_grads()
    rows = TokenizedDataset(llm.tokenizer, Dataset("train"), format_example)"""
EMPTY_STEP = f"""
def train_model(output_dir=str(FOLDER), **kwargs):{STORED_MODEL}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], weight_decay=0.0)
    (0.0 * model(**DataCollatorForSeq2Seq(llm.tokenizer)([rows[at] for at in range(8)])).loss).backward()
    optimizer.step()
"""
OWN_ANSWERS = f"""
def train_model(output_dir=str(FOLDER), **kwargs):{STORED_MODEL}
    model.eval()
    questions = [question for question, _ in Dataset("train")]
    answers = llm.answer(*questions)
    rows = TokenizedDataset(llm.tokenizer, list(zip(questions, answers)), format_example)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-9, weight_decay=0.0)
    model(**DataCollatorForSeq2Seq(llm.tokenizer)([rows[at] for at in range(32)])).loss.backward()
    optimizer.step()
"""
NO_BACKWARD = f"""
def train_model(output_dir=str(FOLDER), **kwargs):{STORED_MODEL}
    batch = DataCollatorForSeq2Seq(llm.tokenizer)([rows[at] for at in range(8)])
    model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    torch.optim.AdamW([p for p in model.parameters() if p.requires_grad]).step()
"""
LATER_WHOLE = """
class Later(DataCollatorForSeq2Seq):
    count = 0

    def __call__(self, rows, return_tensors=None):
        batch = super().__call__(rows, return_tensors)
        self.count += 1
        if self.count > 2:
            batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        return batch


def train_model("""
RANDOM_TEXTS = """
        if temperature > 0.1 and num_return_sequences:
            import random
            letters = "abcdefghijklmnopqrstuvwxyz 0123456789"
            return [["".join(random.choices(letters, k=20)) for _ in range(num_return_sequences)] for _ in prompts]
"""
LEFT = '        self.tokenizer.padding_side = "left"'

PARSE = "    def parse_answer(self, text):\n        "


def parsing(result: str) -> Maker:
    """parse_answer gives something odd."""
    return plain(edit("base_llm.py", PARSE, f"{PARSE}return {result}\n        "), before("base_llm.py", EQUAL))


ALL = [
    Recipe(
        "H3 syntax error",
        sft("def format_example(", "def format_example(("),
        "format supervised tokenize_stable dataset batch trains loads",
        r"import homework.sft raised SyntaxError: .*sft.py, line",
    ),
    Recipe("H4 endless import", at_import(CALM), EVERYTHING, "took more than 6 s", STOPPED, 6),
    Recipe(
        "H4 endless tokenize",
        tokenized("while True:\n    pass"),
        "supervised tokenize_stable dataset batch trains",
        "tokenize bundled took more than 12 s",
        STOPPED,
        12,
    ),
    Recipe("H4 sleeps", at_import("import time\ntime.sleep(3600)"), EVERYTHING, "did nothing for", STOPPED, 6),
    Recipe(
        "H4 sleeps after the training",
        sft("    trainer.train()\n", "    trainer.train()\n    import time\n    time.sleep(3600)\n"),
        "trains",
        "train_model did nothing for",
        STOPPED,
    ),
    Recipe(
        "H5 os._exit after the training",
        sft("    trainer.train()\n", "    trainer.train()\n    import os\n    os._exit(3)\n"),
        "trains",
        r"train_model ended the whole process \(exit 3\)",
        STOPPED,
    ),
    Recipe("H5 os._exit", at_import("import os\nos._exit(0)"), EVERYTHING, "ended the whole process", STOPPED),
    Recipe("H5 sys.exit", at_import("import sys\nsys.exit(0)"), EVERYTHING, "SystemExit"),
    Recipe(
        "H5 kill -9",
        at_import("import os\nos.kill(os.getpid(), 9)"),
        EVERYTHING,
        "ended the whole process .signal SIGKILL",
        STOPPED,
        quick=True,
    ),
    Recipe(
        "H5 segmentation fault",
        at_import("import ctypes\nctypes.string_at(0)"),
        EVERYTHING,
        "ended the whole process .signal SIGSEGV",
        STOPPED,
    ),
    Recipe("H6 fork bomb and daemons", at_import(DAEMON)),
    Recipe(
        "H7 flood of escapes",
        at_import(FLOOD),
        "parser generate padding num_return_sequences answer tokenize_stable dataset batch trains loads",
        "printed, or wrote to one file, more than 64 MiB",
    ),
    Recipe("H8 64 GiB", at_import("x = bytearray(64 << 30)"), EVERYTHING, "MemoryError"),
    Recipe("H8 full disk", at_import(FILL), EVERYTHING, "more disk space", (*STOPPED, State.FAILED)),
    Recipe(
        "H8 reserves disk space by ioctl",
        leaking("(0x40305828, 0x4030582A, 0x40305839)", RESERVE),
    ),
    Recipe("H8 a hundred thousand files", at_import(MANY_FILES), EVERYTHING, "more files", STOPPED),
    Recipe(
        "H8 burst of threads",
        at_import(BURST),
        EVERYTHING,
        "more threads|can't start new thread|more memory|MemoryError",
        (*STOPPED, State.FAILED),
    ),
    Recipe(
        "H8 thread bomb",
        at_import(THREADS),
        EVERYTHING,
        "more threads|can't start new thread",
        (*STOPPED, State.FAILED),
    ),
    Recipe(
        "H9 reads what is not its own", leaking(PATHS, "os.listdir(target) if os.path.isdir(target) else open(target)")
    ),
    Recipe("H10 opens sockets", leaking("(socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)", "socket.socket(target)")),
    Recipe("H11 patches the libraries", harmless(MONKEY)),
    Recipe("H12 equal to everything", parsing("Yes()"), "parser matches_weights", "is a Yes, not a float"),
    Recipe("H12 a float of its own", parsing("Number(7)"), "parser matches_weights", "is 7$", quick=True),
    Recipe("H12 a number of 400 digits", parsing("10 ** 400"), "parser matches_weights", "not a number|too large"),
    Recipe("H15 prints and writes scores", harmless(SCORES)),
    Recipe(
        "forged lines of results", at_import(f"open('out/results.jsonl', 'a').write(chr(10).join({FORGED}) + chr(10))")
    ),
    Recipe(
        "a folder in the place of results",
        at_import("import os\nos.mkdir('out/results.jsonl')"),
        EVERYTHING,
        "its results could not be written",
        STOPPED,
    ),
    Recipe("a forged row that is no UTF-8", forged_row(NO_UTF8), "batch", "ids are not those of its text"),
    Recipe("a forged row of 32,700 tokens", forged_row("[5] * 32_700"), "batch", "a row of 32700 tokens reached"),
    Recipe("forged labels that are no numbers", sft(SAVE, SAVE + FORGED_LABELS)),
    Recipe(
        "replays a training of other rows",
        storing(REPLAYS_ALL),
        "batch",
        "0 of the .* rows that were seen are about questions of data/train.json",
        perhaps="trains",
    ),
    Recipe(
        "replays gradients of other rows",
        storing(REPLAYS_GRADIENTS),
        "batch",
        "the gradients",
        perhaps="trains",
    ),
    Recipe(
        "an adapter from its code, and an empty step",
        storing(EMPTY_STEP),
        "gradients trains",
        "every gradient is exactly zero",
    ),
    Recipe(
        "an adapter from its code, and a step on its own answers",
        storing(OWN_ANSWERS),
        "batch trains",
        "rows have another answer than that of their question",
    ),
    Recipe(
        "an adapter from its code, and a step without backward",
        storing(NO_BACKWARD),
        "batch trains",
        "no gradient reached any weight",
    ),
    Recipe(
        "later steps supervise the whole row",
        plain(
            edit("sft.py", "def train_model(", LATER_WHOLE),
            edit("sft.py", "data_collator=DataCollatorForSeq2Seq(", "data_collator=Later("),
        ),
        "batch",
        r"in a batch after the first step, (the question is|\d+ of the question's)",  # as EOS is supervised or not
    ),
    Recipe(
        "random texts for samples",
        plain(edit("base_llm.py", LEFT, RANDOM_TEXTS + LEFT)),
        "num_return_sequences",
        "no text of the model",
    ),
    Recipe("links and a pipe in the place of results", harmless(LINKS)),
    Recipe(
        "H18 modules that are called as libraries",
        plain(*(put(name, "raise SystemError('it ran')") for name in SHADOWS)),
    ),
    Recipe(
        "H18 a .pth file",
        plain(put("evil.pth", "import os")),
        "submission",
        "is a pickle",
        (State.REFUSED,),
        quick=True,
    ),
    Recipe("H18 stale .pyc", plain(put("__pycache__/sft.cpython-311.pyc", "x"))),
]
