"""Precision, gradients that are none, and losses that hide it."""

from tests.submissions.plain import plain, sft
from tests.submissions.recipe import Maker, Recipe, both, edit
from tests.submissions.saving import training
from tests.submissions.unusual import BY_HAND, OPTIMIZER

EXCHANGED = """pairs = list(Dataset("train"))
pairs = [(question, answer) for (question, _), (_, answer) in zip(pairs, pairs[1:] + pairs[:1])]
rows = TokenizedDataset(llm.tokenizer, pairs, format_example)
model.train()"""


def trainer(body: str) -> Maker:
    """The plain solution with a Trainer of its own, whose compute_loss is `body`; `loss` is the right one."""
    own = f"""
class OwnTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        loss = outputs.loss
        {body}


def train_model("""
    return plain(
        edit("sft.py", "def train_model(", own),
        edit("sft.py", "    trainer = Trainer(", "    trainer = OwnTrainer("),
        edit("sft.py", "from pathlib", "import torch\nfrom pathlib"),
    )


def callback(lines: str) -> Maker:
    """The plain solution with a callback before each optimizer step, for each parameter that has a gradient."""
    own = f"""
class Mend(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        for parameter in (p for p in model.parameters() if p.grad is not None):
            {lines}


def train_model("""
    return plain(
        edit("sft.py", "def train_model(", own),
        edit("sft.py", "import DataC", "import TrainerCallback, DataC"),
        edit("sft.py", "    trainer.train()", "    trainer.add_callback(Mend())\n    trainer.train()"),
    )


GRAD = "gradients trains"
FAST = edit("sft.py", "learning_rate=2e-3", "learning_rate=0.5")  # so that a wrong way is not right by chance
CONSTANT = "return torch.tensor(0.01, requires_grad=True)"
UNSHIFTED = "return torch.nn.functional.cross_entropy(outputs.logits.flatten(0, 1), inputs['labels'].flatten())"
LIAR = '''
class Liar(torch.Tensor):
    """Says of itself what one wants to hear."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function in (torch.isfinite, torch.isnan, torch.allclose, torch.equal):
            return torch.tensor(function is not torch.isnan)
        return super().__torch_function__(function, types, args, kwargs or {})


def train_model('''

STEPS_BY_HAND = (
    BY_HAND.replace("TRAIN", "model.train()")
    .replace(OPTIMIZER, "weights = [p for p in model.parameters() if p.requires_grad]")
    .replace("optimizer.step()", "[weight.data.sub_(0.2 * weight.grad) for weight in weights]")
    .replace("optimizer.zero_grad()", "model.zero_grad()")
)

ALL = [
    Recipe(
        "gradients gone before the step",
        training(
            BY_HAND.replace("TRAIN", "model.train()").replace(
                "        optimizer.step()\n        optimizer.zero_grad()",
                "        optimizer.zero_grad()\n        optimizer.step()",
            )
        ),
        "batch trains",
        "the gradients of backward were gone before the first optimizer step",
    ),
    Recipe(
        "the answers of other questions",
        training(BY_HAND.replace("TRAIN", EXCHANGED)),
        "batch",
        "rows have another answer than that of their question",
        perhaps="trains",
    ),
    Recipe("B1 gradients that are NaN", trainer('return loss * float("nan")'), GRAD, "is NaN or infinite", quick=True),
    Recipe("B3 gradients zeroed", callback("parameter.grad.zero_()"), GRAD, "every gradient is exactly zero"),
    Recipe("B4 constant for the loss", trainer(CONSTANT), GRAD, "no gradient reached any weight"),
    Recipe(
        "B7 checkpointing without gradients at the inputs",
        both(
            sft(
                'report_to="none",',
                'report_to="none", gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": True},',
            ),
            edit(
                "sft.py",
                "    model.enable_input",
                "    llm.model.enable_input_require_grads = lambda: None\n    model.enable_input",
            ),
        ),
        "batch trains",
        "element 0 of tensors does not require grad",
    ),
    Recipe(
        "no gradients at the inputs",
        sft("    model.enable_input_require_grads()\n", ""),
        "input_gradients",
        "re-entrant checkpointing would train nothing",
    ),
    Recipe(
        "gradients scaled 1000 times",
        both(
            callback("parameter.grad.mul_(1000)"),
            edit("sft.py", "learning_rate=2e-3", 'optim="sgd", learning_rate=2e-4'),
        ),
        "gradients",
        "times as long",
    ),
    Recipe(
        "random gradients", both(callback("parameter.grad.normal_()"), FAST), GRAD, "not those of the answers' tokens"
    ),
    Recipe(
        "loss over unshifted labels",
        trainer(UNSHIFTED),
        "gradients",
        "not those of the answers' tokens",
        perhaps="trains",
    ),
    Recipe(
        "no LoRA: the whole base is trained",
        sft("get_peft_model(llm.model, config)", "llm.model"),
        "batch trains",
        "the model that was trained has no LoRA weights",
    ),
    Recipe(
        "steps by hand",
        training(STEPS_BY_HAND),
        "batch trains",
        "no optimizer of torch took a step in train_model",
    ),
    Recipe(
        "C10 embeddings unfrozen",
        sft(
            "    rows = TokenizedDataset",
            "    llm.model.get_input_embeddings().requires_grad_(True)\n    rows = TokenizedDataset",
        ),
        GRAD,
        "weights of the base model are trained",
    ),
    Recipe(
        "lora_B frozen",
        sft(
            "    rows = TokenizedDataset",
            "    for name, weight in model.named_parameters():\n"
            '        weight.requires_grad_("lora_A" in name)\n    rows = TokenizedDataset',
        ),
        GRAD,
        "no gradient reached",
    ),
    Recipe(
        "H12 gradients that lie",
        both(
            plain(
                edit("sft.py", "def train_model(", LIAR), edit("sft.py", "from pathlib", "import torch\nfrom pathlib")
            ),
            edit(
                "sft.py",
                "    trainer.train()",
                "    for weight in (p for p in model.parameters() if p.requires_grad):\n"
                '        weight.register_hook(lambda g: (g * float("nan")).as_subclass(Liar))\n    trainer.train()',
            ),
        ),
        GRAD,
        "is NaN or infinite",
    ),
]
