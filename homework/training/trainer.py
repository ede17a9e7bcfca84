"""The one Trainer: transformers' own, with every guard on, resumption bit for bit, and no work that nobody reads.

A step of `HomeworkTrainer`, from top to bottom:

    get_train_dataloader   which rows, in which order, with the list of their supervised positions
    training_step          the guards of the loss, around forward and backward pass
    pass_both              forward and backward pass, on a GPU as one CUDA graph
    compute_loss           the forward pass: logits of supervised positions only, LoRA in the precision of the base
    _clip_grad_norm        of the adapter alone; the callback GradientWatch has looked at the gradients before
    callbacks              what has moved, progress, accuracy, checkpoints, Ctrl-C
"""

import contextlib
import copy
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from peft.helpers import disable_input_dtype_casting
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import TrainOutput

from homework.base_llm import BaseLLM
from homework.common.errors import HomeworkError, one_line
from homework.common.files import write_json
from homework.common.runtime import training_memory
from homework.common.zip_contents import WEIGHTS
from homework.data import IGNORE_INDEX, Dataset, ListLike, Row, check_apart
from homework.guards.inference_check import check_answering, check_context, check_lengths, check_prompt
from homework.guards.label_check import check_rows
from homework.guards.metric_check import check_metric
from homework.guards.reload_check import capture_logits, check_load
from homework.guards.watchdog import (
    NO_GRADIENT,
    UNREACHED,
    GradientWatch,
    check_alpha,
    check_arguments,
    check_input_gradients,
    check_trainable,
    diagnose_batch,
    diagnose_loss,
    diagnose_loss_by_hand,
    diagnose_tensors,
)
from homework.training import distributed
from homework.training._cuda_graphs import StepGraphs, can_record
from homework.training.adapter import check_disk_space, describe_model, save_adapter
from homework.training.batches import (
    Batch,
    EpochSampler,
    MicroBatches,
    choose_micro_batch,
    describe_rows,
    select_supervised,
)
from homework.training.callbacks import (
    AccuracyCallback,
    CheckpointCallback,
    InterruptCallback,
    Interrupted,
    Progress,
    check_resumed,
    report_log,
)
from homework.training.evaluation import Rows, take_probes
from homework.training.recipe import Recipe, check_batch
from homework.training.run_dir import (
    LOG,
    Run,
    describe,
    now,
    open_run,
    report_finished,
    step_of,
    steps_of,
    warn_other_runs,
)


@dataclass
class HomeworkArguments(TrainingArguments):
    """transformers' arguments, with the defaults that the guards rest on."""

    logging_steps: float = 1
    logging_nan_inf_filter: bool = False  # it would print a NaN loss as 0.0
    include_num_input_tokens_seen: str | bool = "non_padding"
    save_strategy: str = "no"  # the callbacks say when
    disable_tqdm: bool | None = True
    report_to: str | list[str] | None = "none"
    remove_unused_columns: bool = False  # the collator needs every field
    label_names: list[str] | None = field(default_factory=lambda: ["labels"])
    ddp_find_unused_parameters: bool | None = False  # LoRA uses all of its weights in every step
    # Several processes without a GPU: else each of them would train for itself.
    use_cpu: bool = field(default_factory=lambda: distributed.world() > 1 and not torch.cuda.is_available())

    @property
    def n_gpu(self) -> int:
        """One: DataParallel would only add copies of so small a model."""
        return min(1, super().n_gpu)


class HomeworkTrainer(Trainer):
    """Trains the adapter of a model in place, under all guards, going on from the newest whole checkpoint of its run.

    Args:
        llm: the base model: its tokenizer, its name, and how to load it anew.
        model: base and LoRA.
        args: with the whole batch as per_device_train_batch_size; it is divided among processes and micro-batches here.
        data_collator: makes a batch of `input_ids`, `attention_mask` and `labels` (B, T) of rows.
        train_dataset: the tokenized training rows.
        recipe: what the user asked for, against which the arguments are checked.
        train_data: the rows as data, one for each of `train_dataset`.
        valid_data: questions with answers that are in no training row.
        format_fn: makes question and answer of a row of data as texts; the labels are checked against them.
        output: the adapter's folder.
        run_dir: folder of checkpoints and log; one of its own below runs/ if left out.
        restart: begin anew, even if there is a checkpoint or a finished run of the same settings.
        max_steps: stop after so many optimizer steps.
        seed: that the arguments must have; not checked if left out.
        micro_batch_size: rows on the device at once; chosen by its memory if left out.
        watch: False leaves out the guards, and the accuracy on the way, to measure what they cost, or prevent.
        name: of the task, with which the name of the run's folder begins.

    Raises:
        HomeworkError: if labels, prompt or parser are wrong, more or less than LoRA would be trained, a value does not
            fit, another process trains the same, or there is no room on the disk.
    """

    model: Any  # a PeftModel
    train_dataset: Any  # a ListLike[Row]

    def __init__(
        self,
        llm: BaseLLM,
        model: PeftModel,
        args: HomeworkArguments,
        data_collator: Callable[[list[Row]], Batch],
        train_dataset: ListLike[Row],
        *,
        recipe: Recipe,
        train_data: Rows,
        valid_data: Dataset,
        format_fn: Callable[..., dict[str, str]],
        output: Path,
        run_dir: str | None = None,
        restart: bool = False,
        max_steps: int | None = None,
        seed: int | None = None,
        micro_batch_size: int | None = None,
        watch: bool = True,
        name: str = "sft",
    ) -> None:
        check_batch(recipe, micro_batch_size, len(train_dataset))
        if not callable(data_collator):
            raise HomeworkError(f"the Trainer's data_collator is {data_collator!r:.60}: a Collator makes its batches")
        if watch:
            check_rows_and_prompt(llm, train_dataset, train_data, valid_data, format_fn)
            check_model(model, args, recipe, max_steps, seed)
        print(describe_rows(train_dataset, recipe.batch_size))
        self.llm, self.valid_data, self.output, self.watch, self.task = llm, valid_data, output, watch, name
        self.probes = take_probes(train_data, valid_data)
        self.is_cut, self.is_first_batch = max_steps is not None, True
        self.last_step = max_steps or recipe.epochs * -(-len(train_dataset) // recipe.batch_size)
        self.train_dataset, self.data_collator = train_dataset, data_collator
        limits = {"max_steps": max_steps, "micro_batch_size": micro_batch_size, "output_dir": str(output)}
        settings = {**asdict(recipe), **limits, **describe_model(llm, model), **describe_arguments(args)}
        self.run = open_run(describe(data_collator, train_dataset, **settings), run_dir, name, restart)
        self.loaded: BaseLLM | None = None  # what `save` has loaded
        try:
            self.prepare(model, args, recipe, micro_batch_size)
        except BaseException:
            self.run.close()
            raise

    def prepare(self, model: PeftModel, args: HomeworkArguments, recipe: Recipe, micro_batch_size: int | None) -> None:
        """Look for a checkpoint to go on from, choose the micro-batch, and make transformers' Trainer."""
        self.is_finished = distributed.first_decides(lambda: report_finished(self.run, self.output))
        if not self.is_finished:
            trainable, total = model.get_nb_trainable_parameters()
            print(f"LoRA: {trainable:,} trainable of {total:,} parameters, the base is frozen")
            check_disk_space(model, self.output, self.run.folder, self.task)
            warn_other_runs(self.run)
        share = recipe.batch_size // distributed.world()
        micro = micro_batch_size or distributed.first_decides(
            lambda: choose_micro_batch(model, self.train_dataset, self.collate, share)
        )
        self.resumed: Path | None = distributed.first_decides(self.run.newest_checkpoint)
        self.interrupt = InterruptCallback()
        callbacks = [Progress(), CheckpointCallback(self.run, self.resumed), self.interrupt]
        if self.watch:
            callbacks += [AccuracyCallback(self.llm, self.probes), GradientWatch()]
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(self.run.folder / "tensorboard")  # taken from nowhere else
        super().__init__(
            model,
            divide_batch(args, micro, self.run.folder),
            self.data_collator,
            self.train_dataset,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)  # Progress replaces it
        distributed.check_world(self.args.world_size)
        self.trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.graphs = StepGraphs(self.graph_loss, self.trainable) if can_record(self.args) else None

    # --- one step ---

    def get_train_dataloader(self) -> DataLoader:
        """The batches of this process. The Trainer's own would repeat rows where the last batch can't be shared."""
        rows, micro, world = self.train_dataset, self.args.train_batch_size, distributed.world()
        lengths = [len(rows[index]["input_ids"]) for index in range(len(rows))]
        size = micro * self.args.gradient_accumulation_steps * world
        # A resumed state stands inside its epoch, or exactly at the start of the next one.
        order = EpochSampler(lengths, size, self.args.seed, lambda: int(self.state.epoch or 0))
        batches = MicroBatches(order, size, micro, distributed.rank(), world)
        return DataLoader(rows, batch_sampler=batches, collate_fn=self.collate)

    def collate(self, rows: list[Row]) -> Batch:
        """The collator's batch, with the list of supervised positions.

        The collator gets copies: rows that it changed in place would no longer be those that were checked.

        Raises:
            HomeworkError: if it returns something else than a batch of ids, mask and labels.
        """
        batch = self.data_collator([{name: copied(values) for name, values in row.items()} for row in rows])
        if complaint := diagnose_tensors(batch):
            raise HomeworkError(complaint)
        return select_supervised(batch, multiple=8 if torch.cuda.is_available() else 1)

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch: Any = None) -> Tensor:
        """One micro-batch.

        Raises:
            HomeworkError: naming the cause, if no label is left, the batch is not made of the checked rows, no gradient
                reaches the adapter, or the loss is not finite, exactly zero, or not that of the labels.
        """
        if not self.watch:
            return self.pass_both(model, inputs, num_items_in_batch)
        where = f"stopped before step {self.state.global_step + 1}"
        supervised = int((inputs["labels"] != IGNORE_INDEX).sum())
        if supervised == 0:
            raise HomeworkError(
                f"{where}: every label of the batch is -100, so nothing is learned: fix tokenize's span"
            )
        if self.is_first_batch and (complaint := self.diagnose_first(model, inputs)):
            raise HomeworkError(f"{where}: {complaint}")
        self.is_first_batch = False
        try:
            loss = self.pass_both(model, inputs, num_items_in_batch)
        except RuntimeError as error:
            if not any(words in str(error) for words in UNREACHED):
                raise
            raise HomeworkError(f"{where}: {NO_GRADIENT}") from error
        if complaint := diagnose_loss(loss.item(), supervised, model):
            raise HomeworkError(f"{where}: {complaint}")
        return loss

    def diagnose_first(self, model: nn.Module, inputs: Batch) -> str | None:
        """What is wrong with the first batch or its loss, or None."""
        return diagnose_batch(inputs, self.train_dataset) or diagnose_loss_by_hand(
            model, self._prepare_inputs(inputs), self.compute_loss
        )

    def pass_both(self, model: nn.Module, inputs: Batch, items: Any) -> Tensor:
        """Forward and backward pass, as the Trainer does them, or as a CUDA graph; the loss, detached."""
        if self.graphs is None or not torch.is_tensor(items):
            return super().training_step(model, inputs, items)
        if not model.training:
            model.train()
        return self.graphs.run(model, self._prepare_inputs(inputs), items)

    def graph_loss(self, model: nn.Module, inputs: Batch, items: Tensor) -> Tensor:
        """The loss of one micro-batch of a step with so many labels."""
        return self.compute_loss(model, inputs, num_items_in_batch=items)

    def compute_loss(self, model: nn.Module, *arguments: Any, **options: Any) -> Any:
        """The loss, as the Trainer computes it; beside a bfloat16 base, LoRA multiplies in bfloat16 too."""
        with bfloat16_lora(self.model):
            return super().compute_loss(model, *arguments, **options)

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        # The Trainer walks through all modules for the norm, and LoRA has ten for each layer: longer than a GPU's step.
        return nn.utils.clip_grad_norm_(self.trainable, self.args.max_grad_norm)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: counting walks through the whole model each step, and nobody reads it."""
        return 0

    # --- from the start to the adapter on disk ---

    def train(self, *arguments: Any, **options: Any) -> TrainOutput:
        """Train to the end; the log is in `state.log_history`: an entry for each step and each measured accuracy.

        Raises:
            HomeworkError: if the watchdog stops the run, or memory or disk is full.
            Interrupted: after Ctrl-C, with a checkpoint kept.
        """
        if self.is_finished:
            return TrainOutput(self.last_step, 0.0, {})
        with self.run.closed_on_error():
            if self.resumed and step_of(self.resumed) == self.last_step:
                return self.restore(self.resumed)
            return self.train_to_the_end()

    def train_to_the_end(self) -> TrainOutput:
        """Train what is left, and write the log, however it ends."""
        with self.interrupt, training_memory():
            try:
                output = self.train_or_explain()
            finally:
                self.graphs = None  # their memory is needed to load the base model again
                if distributed.is_first():
                    write_log(self.run, self.state.log_history)
        step, last = self.state.global_step, self.state.max_steps
        if step < last or self.interrupt.asked:
            raise Interrupted(
                f"stopped after step {step} of {last}, the adapter's folder is as it was; "
                "the same command goes on from here"
            )
        return output

    def train_or_explain(self) -> TrainOutput:
        """Run the Trainer's loop.

        Raises:
            HomeworkError: if the memory, or the disk of the checkpoints, is full, or a checkpoint can't be continued.
        """
        try:
            return super().train(resume_from_checkpoint=str(self.resumed) if self.resumed else None)
        except torch.OutOfMemoryError as error:
            micro = self.args.train_batch_size
            way_out = f"--micro-batch-size {micro // 2}" if micro > 1 else "--gradient-checkpointing"
            raise HomeworkError(f"out of memory with {micro} rows at once: try {way_out}") from error
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise HomeworkError(
                f"can't write a checkpoint to {self.args.output_dir} ({reason}): free space, then the same command "
                "goes on from the last whole one"
            ) from error

    def restore(self, checkpoint: Path) -> TrainOutput:
        """Take weights and log of the last checkpoint, where all steps are done; the loop would go one step further."""
        print(f"all {step_of(checkpoint)} steps are in {checkpoint}: nothing is left but to save")
        set_peft_model_state_dict(self.model, load_file(checkpoint / WEIGHTS))
        check_resumed(self.model, checkpoint)
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        return TrainOutput(self.state.global_step, 0.0, {})

    def save(self, load: Callable[[], BaseLLM]) -> None:
        """Save the adapter, checked by reloading, and check that `load` gives the trained model too.

        All processes have the same adapter, and the first one saves it. What `load` gives is kept in `loaded`.

        Args:
            load: the student's, without arguments; it is called once the adapter is saved, and loads it.

        Raises:
            HomeworkError: if the adapter can't be written, or what is loaded is not the trained model.
        """
        with contextlib.closing(self.run):
            if self.is_finished or not distributed.is_first():
                return
            if not callable(load) or isinstance(load, torch.nn.Module):
                raise HomeworkError(f"trainer.save is given {load!r:.60}, not a function that loads what was saved")
            if not steps_of(self.state.log_history):
                raise HomeworkError("nothing is trained that could be saved: train comes before save")
            report_log(self.state.log_history)
            rows = [self.train_dataset[index] for index in range(min(4, len(self.train_dataset)))]
            trained = capture_logits(self.model, self.data_collator(rows))
            digest = save_adapter(self.model, self.output, self.llm.reload_model, trained)
            print(f"adapter saved in {self.output}")
            loaded = self.load_or_explain(load)
            if not isinstance(loaded, BaseLLM):
                raise HomeworkError(f"load() gives a {type(loaded).__name__}, not a BaseLLM with the adapter")
            check_load(trained, loaded.model, self.output, digest)
            check_cap(loaded.max_new_tokens, self.train_dataset)
            self.loaded = loaded

    def load_or_explain(self, load: Callable[[], BaseLLM]) -> BaseLLM:
        """What the student's load gives; its refusal says that the adapter itself is there."""
        try:
            return load()
        except HomeworkError as error:
            raise HomeworkError(
                f"the adapter is saved in {self.output}, but load(), which has to read that very folder, fails: {error}"
            ) from error


def check_cap(cap: int, rows: ListLike[Row]) -> None:
    """Raise HomeworkError if a model stops to write before it has written what the rows teach."""
    longest = max(sum(label != IGNORE_INDEX for label in rows[index]["labels"]) for index in range(len(rows)))
    if cap < longest:
        raise HomeworkError(
            f"the adapter is saved, but load gives a model that stops after {cap} tokens, and the rows teach up to "
            f"{longest}: load it as the class of model that was trained"
        )


def check_rows_and_prompt(
    llm: BaseLLM, rows: ListLike[Row], train: Rows, valid: Dataset, format_fn: Callable[..., dict[str, str]]
) -> None:
    """Raise HomeworkError unless the labels of all rows are right, and the questions reach the model as in training."""
    check_apart(train, valid)
    check_metric()
    check_context(llm, train, valid)
    check_answering(llm, train)
    check_rows(llm.tokenizer, train, format_fn, rows)
    check_prompt(llm, train, rows)
    check_lengths(llm, valid, "valid")


def check_model(
    model: PeftModel, args: TrainingArguments, recipe: Recipe, max_steps: int | None, seed: int | None = None
) -> None:
    """Raise HomeworkError unless LoRA of the recipe is all that will be trained, for as long as the flags say."""
    if not isinstance(args, HomeworkArguments):
        raise HomeworkError(
            f"training_arguments gives {type(args).__name__}: take HomeworkArguments, which has the same fields, and "
            "the defaults that the guards rest on (homework/training/trainer.py)"
        )
    check_trainable(model, recipe.rank)
    check_alpha(model, recipe.alpha)
    check_input_gradients(model)
    wanted = {"num_train_epochs": recipe.epochs, "learning_rate": recipe.learning_rate, "max_steps": max_steps or -1}
    wanted |= {"per_device_train_batch_size": recipe.batch_size} | ({} if seed is None else {"seed": seed})
    check_arguments(args, wanted)


def describe_arguments(args: TrainingArguments) -> dict[str, Any]:
    """What of the arguments decides the result of a training: all but where it writes and what it tells."""
    silent = {"output_dir", "run_name", "report_to"}
    values = {field.name: str(getattr(args, field.name)) for field in fields(args) if field.name not in silent}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
    return {"seed": args.seed, "activation_checkpointing": args.activation_checkpointing, "arguments": digest}


def divide_batch(args: HomeworkArguments, micro: int, folder: Path) -> HomeworkArguments:
    """The arguments with the batch in micro-batches of so many rows on each process, and checkpoints in a folder."""
    divided = copy.copy(args)
    divided.output_dir = str(folder)
    batch_size = args.per_device_train_batch_size * args.gradient_accumulation_steps
    divided.gradient_accumulation_steps = batch_size // (micro * distributed.world())
    divided.per_device_train_batch_size = micro
    return divided


@contextlib.contextmanager
def bfloat16_lora(model: nn.Module) -> Iterator[None]:
    """Multiply in bfloat16 where the base is in bfloat16 on a GPU; the adapter itself stays in float32.

    Else each LoRA layer turns its input into float32 and back, and multiplies without the GPU's matrix units. The cache
    of autocast is off because a graph must not find weights there that were cast outside of it.
    """
    base = next(model.parameters())
    if base.device.type != "cuda" or base.dtype != torch.bfloat16:
        yield
        return
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False), disable_input_dtype_casting(model):
        yield


def write_log(run: Run, history: list[dict]) -> None:
    """Write settings and log of a run as JSON, whatever ended it. A number that is not finite is written as text."""
    log = [{key: value if math.isfinite(value) else str(value) for key, value in entry.items()} for entry in history]
    with contextlib.suppress(OSError):  # a full disk has been reported; it must not hide what ended the run
        write_json(run.folder / LOG, {"written": now(), "settings": run.settings, "log": log})


def copied(values: Any) -> Any:
    """A copy of a row's values, a tensor where they are one."""
    return values.clone() if torch.is_tensor(values) else list(values)
