"""The jobs: what a submission's code is asked to do, one function a job. See worker.py for how it answers.

The names and signatures used here are the contract of the homework (README, Tasks); nothing else is assumed.
"""

import contextlib
import functools
import importlib
import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stand_ins
import torch
from safetensors.torch import save_file
from training_recorder import TrainingRecorder, by_name
from transformers import AutoTokenizer
from worker import Job

LONGEST_DATASET = 2000
LARGEST_FILE = 1_000_000  # bytes of the rows about 64 questions: right ones have 40,000
STAND_INS = (
    ("answers", "format_example", stand_ins.formatting),
    ("right_rows", "tokenize", stand_ins.tokenizing),
)
# What the Trainer of the homework asks of functions that other checks test: a fault there costs no training.
TESTED_ELSEWHERE = (("inference_check", "check_answering"), ("metric_check", "check_metric"))
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def run(name: str, job: Job) -> None:
    """Run the job of a name."""
    loader: Any = torch.utils.data.DataLoader
    loader.__init__ = without_workers(loader.__init__)
    JOBS[name](job)


def without_workers(init: Callable[..., None]) -> Callable[..., None]:
    """A DataLoader that asks for no other processes: there are none here, and what it loads is the same."""
    alone = {
        "num_workers": 0, "prefetch_factor": None, "persistent_workers": False, "multiprocessing_context": None,
        "timeout": 0,
    }  # fmt: skip

    @functools.wraps(init)
    def stand_in(loader: Any, *arguments: Any, **options: Any) -> None:
        init(loader, **by_name(init, arguments, options) | alone)

    return stand_in


def answering(job: Job) -> None:
    """parse_answer, generate, batched_generate and answer of homework.base_llm."""
    base_llm, inputs = job.use("base_llm"), job.inputs
    llm = job.record("BaseLLM()", lambda: base_llm.BaseLLM())  # noqa: PLW0108 (it may be missing)
    if llm is None:
        return
    job.record("parse_answer", lambda: [llm.parse_answer(text) for text in inputs["texts"]])
    job.record("format_prompt", lambda: [llm.format_prompt(question) for question in inputs["prompts"]])
    job.record("generate", lambda: [llm.generate(prompt) for prompt in inputs["prompts"]])
    job.record("batched_generate", lambda: llm.batched_generate(list(inputs["prompts"])))
    few = [inputs["prompts"][0], inputs["prompts"][-1]]
    for count in (1, 3):
        job.record(f"batched_generate n={count}", lambda count=count: sample(llm, few, count))
    job.record("batched_generate few", lambda: llm.batched_generate(inputs["prompts"][:4]))
    job.record("batched_generate cold", lambda: sample(llm, inputs["prompts"][:4], 2, inputs["cold"]))
    table_model = job.record("BaseLLM(checkpoint)", lambda: base_llm.BaseLLM(str(job.folder / "in" / "table_model")))
    if table_model is None:
        return
    questions = inputs["questions"]
    job.record("format_prompt of questions", lambda: [table_model.format_prompt(question) for question in questions])
    job.record("batched_generate of questions", lambda: sample(table_model, questions[:-1], 3, inputs["cold"]))
    given = inputs["written"], dict(inputs["numbers"])
    stand_ins.put(base_llm, "parse_answer", stand_ins.reading, given[1])
    job.record("answer", lambda: stand_ins.scripted(table_model, *given).answer(*questions))


def sample(llm: Any, prompts: list[str], count: int, temperature: float = 1.0) -> Any:
    """Several texts for each prompt."""
    return llm.batched_generate(list(prompts), num_return_sequences=count, temperature=temperature)


def scoring(job: Job) -> None:
    """is_answer_valid and benchmark of homework.data."""
    data, inputs = job.use("data"), job.inputs
    job.record("is_answer_valid", lambda: [bool(data.is_answer_valid(*pair)) for pair in inputs["pairs"]])
    dataset = job.record("Dataset", lambda: data.Dataset("valid"))
    if dataset is None:
        return
    stand_ins.put(data, "is_answer_valid", stand_ins.judging, inputs["right"])
    for name, count in (
        ("benchmark", None),
        ("benchmark of the first", inputs["few"]),
        ("benchmark of more", inputs["more"]),
    ):
        llm = Scripted(inputs["answers"])
        job.record(name, lambda llm=llm, count=count: shares(data.benchmark(llm, dataset, count), llm))


class Scripted:
    """Stands in the place of a model: gives each question the answer that belongs to it."""

    def __init__(self, answers: dict[str, float]) -> None:
        self.answers, self.asked = answers, 0

    def answer(self, *questions: str) -> list[float]:
        """As the answer of a model."""
        self.asked += len(questions)
        return [self.answers.get(question, float("nan")) for question in questions]


def shares(result: Any, llm: Scripted) -> dict[str, Any]:
    """What a benchmark found, and how many questions it asked."""
    return {"accuracy": result.accuracy, "answer_rate": result.answer_rate, "asked": llm.asked}


def labels(job: Job) -> None:
    """format_example, tokenize and TokenizedDataset of homework.sft."""
    sft, inputs = job.use("sft"), job.inputs
    job.record("format_example", lambda: [sft.format_example(*row) for row in inputs["numbers"]])
    for family in inputs["families"]:
        tokenizer = AutoTokenizer.from_pretrained(job.folder / "in" / family)
        job.record(f"tokenize {family}", lambda t=tokenizer: [sft.tokenize(t, *row) for row in inputs["rows"]])
    base_llm = job.use("base_llm")
    llm = job.record("BaseLLM()", lambda: base_llm.BaseLLM())  # noqa: PLW0108 (it may be missing)
    if llm is None:
        return
    job.record("generate", lambda: llm.batched_generate([question for question, _ in inputs["rows"]][:4]))
    job.record("tokenize later", lambda: [sft.tokenize(llm.tokenizer, *row) for row in inputs["rows"]])
    job.record("generate later", lambda: llm.batched_generate(list(inputs["prompts"])))
    data = job.use("data")
    dataset = job.record("Dataset", lambda: data.Dataset("train"))
    if dataset is not None:
        tokenizer = AutoTokenizer.from_pretrained(job.folder / "data" / "base_model")
        format_fn = stand_ins.formatting(inputs["answers"], getattr(sft, "format_example", None))
        job.record("TokenizedDataset", lambda: rows_of(sft.TokenizedDataset(tokenizer, dataset, format_fn)))
        stand_ins.put(sft, "tokenize", stand_ins.tokenizing, inputs["right_rows"])
        job.record("TokenizedDataset alone", lambda: rows_of(sft.TokenizedDataset(tokenizer, dataset, format_fn)))


def rows_of(dataset: Any) -> list:
    """The rows of a dataset."""
    return [dataset[index] for index in range(min(len(dataset), LONGEST_DATASET))]


def training(job: Job) -> None:
    """train_model of homework.sft on a few rows, recorded from outside of it."""
    recorder = TrainingRecorder(functools.partial(write_first_step, job))
    sft, inputs = job.use("sft"), job.inputs
    for name, function, stand_in in STAND_INS:
        if name in inputs:
            stand_ins.put(sft, function, stand_in, inputs[name])
    run_training(job, sft, recorder)
    save(job, "after", recorder.after)


def run_training(job: Job, module: Any, recorder: Any) -> None:
    """Call the train_model of a module, and write what a recorder saw of the first step and of the batches after it."""
    for name, function in TESTED_ELSEWHERE:
        with contextlib.suppress(ImportError):
            guard = importlib.import_module(f"homework.guards.{name}")
            stand_ins.put(guard, function, lambda own: lambda *given, **more: None)
    job.record("train_model", lambda: call(module.train_model, job))
    recorder.go_on()
    job.record("later batches", lambda: recorder.later)


def write_first_step(job: Job, recorder: Any) -> None:
    """Write what a recorder saw of the first step, amid the training or at its end."""
    job.record("batches", lambda: recorder.batches)
    job.record("stepped", lambda: recorder.stepped)
    job.record("optimizers", lambda: recorder.optimizers)
    job.record("frozen", lambda: recorder.frozen)
    job.record("came back", lambda: any(recorder.learned))
    job.record("input gradients", lambda: recorder.inputs_require_gradients)
    save(job, "gradients", recorder.gradients)
    save(job, "before", recorder.before)
    job.stage("train_model")


def call(train_model: Callable, job: Job) -> Any:
    """train_model with its defaults; where it asks for a folder, the one that load() and the zip expect."""
    needed = [
        name
        for name, parameter in inspect.signature(train_model).parameters.items()
        if parameter.default is parameter.empty and parameter.kind not in VARIABLE
    ]
    return train_model(**{name: str(job.adapter_dir) for name in needed if "dir" in name})


def loading(job: Job) -> None:
    """load of homework.sft, with an adapter of the course's in place and without one."""
    try_load(job, "load", job.use("sft"))


def try_load(job: Job, name: str, module: Any) -> list[Any]:
    """load without an adapter, with one, and without its weights: who counts its calls passes no two.

    Returns:
        the model that it gave with one, if any.
    """
    kept = {path.name: path.read_bytes() for path in job.adapter_dir.iterdir()}
    shutil.rmtree(job.adapter_dir)
    job.record(f"{name} without an adapter", lambda: type(module.load()).__name__)
    shutil.rmtree(job.adapter_dir, ignore_errors=True)  # whatever was made up there
    job.adapter_dir.mkdir()
    for file, content in kept.items():
        (job.adapter_dir / file).write_bytes(content)
    loaded: list[Any] = []

    def load() -> torch.Tensor:
        loaded.append(module.load())
        return logits_of(loaded[0], job.inputs["ids"])

    logits = job.record(name, load)
    job.record(f"{name} answers", lambda: [callable(getattr(llm, "answer", None)) for llm in loaded])
    job.record("drops out", lambda: any(drops_out(llm.model) for llm in loaded))
    if isinstance(logits, torch.Tensor):
        save(job, "logits", {"logits": logits})
    shutil.rmtree(job.adapter_dir)
    job.adapter_dir.mkdir()
    for file in (file for file in kept if file.endswith(".json")):
        (job.adapter_dir / file).write_bytes(kept[file])
    job.record(f"{name} without its weights", lambda: type(module.load()).__name__)
    return loaded


def drops_out(model: torch.nn.Module) -> bool:
    """Whether dropout is active in a model, because it is in training mode."""
    return any(isinstance(layer, torch.nn.Dropout) and layer.training and layer.p > 0 for layer in model.modules())


def logits_of(llm: Any, rows: list[list[int]]) -> torch.Tensor:
    """The logits of the last position of each row of ids, (rows, vocabulary)."""
    with torch.no_grad():
        return torch.stack([llm.model(input_ids=torch.tensor([ids])).logits[0, -1].float() for ids in rows])


def prompting(job: Job) -> None:
    """format_prompt of homework.cot, and load of homework.rft, with an adapter of the course's and without one."""
    cot, inputs = job.use("cot"), job.inputs
    llm = job.record("cot.load", lambda: a_model(cot.load()))
    if llm is not None:
        job.record("format_prompt", lambda: [llm.format_prompt(question) for question in inputs["questions"]])
    for model in try_load(job, "rft.load", job.use("rft")):
        job.record("rft.load format_prompt", lambda model=model: model.format_prompt(inputs["questions"][0]))


def a_model(made: Any) -> Any:
    """What a load gave.

    Raises:
        TypeError: if it gave nothing.
    """
    if made is None:
        raise TypeError("it gives None, not a model")
    return made


def sampling(job: Job) -> None:
    """generate_dataset of homework.datagen, with a model that writes known texts."""
    cot, datagen, inputs = job.use("cot"), job.use("datagen"), job.inputs
    model = getattr(cot, "CoTModel", None)
    if model is None:
        job.record("generate_dataset", refuse_other_class)
        return
    if "prompt" in inputs:  # the submission's own is told where it is tested
        before, after = inputs["prompt"]
        stand_ins.put(cot, "worked_example", lambda _: lambda: tuple(inputs["example"]))
        stand_ins.put(
            model, "format_prompt", lambda _: lambda llm, question, *given, **more: f"{before}{question}{after}"
        )
    script = stand_ins.Script(inputs["script"], inputs["greedy"], inputs.get("example", ("",))[0])
    target = job.folder / "data" / "rft.json"

    def generate() -> None:
        script.take_over(model)
        datagen.generate_dataset(str(target))

    job.record("generate_dataset", generate)
    job.record("rows", lambda: read_json(target))
    job.record("asked", lambda: script.asked)
    job.record("misformatted", lambda: script.misformatted)


def read_json(path: Path) -> Any:
    """The content of a file of JSON.

    Raises:
        OSError: if it is much longer than any right one, so that its lines would take the place of all others.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise OSError(f"a file of {path.stat().st_size} bytes")
    return json.loads(path.read_text(encoding="utf-8"))


def refuse_other_class() -> None:
    """Raise the error of a homework whose model that reasons has another name: nothing can be scripted there."""
    raise AttributeError("there is no class CoTModel in homework/cot.py")


def reasoning_training(job: Job) -> None:
    """train_model of homework.rft on a few rows with reasons, recorded from outside of it."""
    recorder, rft = TrainingRecorder(functools.partial(write_first_step, job)), job.use("rft")
    sft = job.use("sft")
    for module in (sft, rft):  # where tokenize is wrong, which is told where it is tested
        if "right_rows" in job.inputs:
            stand_ins.put(module, "tokenize", stand_ins.tokenizing, job.inputs["right_rows"])
    run_training(job, rft, recorder)


def agreeing(job: Job) -> None:
    """load().answer with the submission's own adapter."""
    sft = job.use("sft")
    job.record("answer", lambda: sft.load().answer(*job.inputs["questions"]))


def save(job: Job, name: str, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors as safetensors, each with memory of its own."""
    job.stage(f"writing {name}")
    kept = {key: tensor.detach().float().cpu().clone().contiguous() for key, tensor in tensors.items()}
    save_file(kept, job.folder / "out" / f"{name}.safetensors")


JOBS: dict[str, Callable[[Job], None]] = {
    "answering": answering,
    "scoring": scoring,
    "labels": labels,
    "training": training,
    "loading": loading,
    "agreeing": agreeing,
    "prompting": prompting,
    "sampling": sampling,
    "reasoning_training": reasoning_training,
}
