"""Logs as the real libraries write them: one small program per library.

`python tests/frameworks/write_samples.py FOLDER [NAME…]` writes FOLDER/NAME/… for each library that is named, or for
all of them. Each program is started by itself, because some of these libraries do not bear each other in one process.
What is kept under tests/formats/samples was made by this; its README.md says with which versions.

The curves fall, and most of them end in NaN: `BREAKS` says from which step on. Libraries that only log get a curve of
ours; those that train get a model so small that it takes seconds, and a loss that is made NaN.
"""

from __future__ import annotations

import math
import os
import random
import sys
import types
from pathlib import Path

STEPS = 30
BREAKS = 25
"""The first step whose loss is NaN."""


def curve(step):
    """A loss that falls, until it is none."""
    return round(2.0 - 0.05 * step + 0.01 * (step % 3), 4) if step < BREAKS else math.nan


def _sums(count=64):
    """Rows of four numbers and their sum."""
    import torch

    torch.manual_seed(0)
    rows = torch.randn(count, 4)
    return rows, rows.sum(1, keepdim=True)


# ------------------------------------------------------------------------------------------- libraries that train


def lightning(out):
    """A header that grows, because one metric comes late, and rows of the learning rate before those of the step."""
    import lightning.pytorch as pl
    import torch
    from lightning.pytorch.callbacks import LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    class Net(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch):
            loss = ((self.layer(batch[0]) - batch[1]) ** 2).mean()
            if self.global_step >= BREAKS:
                loss = loss * math.nan
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            if self.global_step > 12:
                self.log("late", 1.0)
            return loss

        def validation_step(self, batch):
            self.log("val_loss", ((self.layer(batch[0]) - batch[1]) ** 2).mean())

        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), 0.1)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    pl.seed_everything(0, verbose=False)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*_sums()), batch_size=8)
    pl.Trainer(
        max_epochs=4, log_every_n_steps=2, accelerator="cpu", enable_checkpointing=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[LearningRateMonitor()],
        logger=[
            CSVLogger(out, name="csv", version=0, flush_logs_every_n_steps=5),
            TensorBoardLogger(out, name="tensorboard", version=0),
        ],
    ).fit(Net(), loader, loader)  # fmt: skip


def keras(out):
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import numpy as np

    class Break(keras.callbacks.Callback):
        """From its seventh epoch on the weights are none."""

        def on_epoch_begin(self, epoch, logs=None):  # noqa: ARG002
            if epoch == 6:
                self.model.set_weights([np.full_like(one, np.nan) for one in self.model.get_weights()])

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    rows, sums = (part.numpy() for part in _sums())
    log = keras.callbacks.CSVLogger(str(out / "training.log"))
    slower = keras.callbacks.LearningRateScheduler(lambda _, rate: rate * 0.9)
    model.fit(rows, sums, epochs=8, validation_data=(rows, sums), callbacks=[slower, Break(), log], verbose=0)


def huggingface(out):
    """A state saved with each of three checkpoints, and at the end; the loss breaks down at step 20."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    class Breaking(Trainer):
        def compute_loss(self, *arguments, **named):
            found = super().compute_loss(*arguments, **named)
            # The NaN is in the numbers alone: weights that are NaN would make of each later checkpoint a large file.
            broken = self.state.global_step >= 19 and self.model.training
            return found * math.nan if broken else found

    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    rows = [{"input_ids": torch.randint(0, 50, (8,)), "labels": torch.tensor(i % 2)} for i in range(64)]
    arguments = TrainingArguments(
        str(out), max_steps=24, per_device_train_batch_size=8, logging_steps=1, save_steps=8, eval_strategy="steps",
        eval_steps=8, report_to=[], use_cpu=True, disable_tqdm=True, logging_nan_inf_filter=False,
    )  # fmt: skip
    trainer = Breaking(BertForSequenceClassification(config), arguments, train_dataset=rows, eval_dataset=rows[:16])
    trainer.train()
    trainer.save_state()


def baselines(out):
    """PPO on a pole; all four of its writers."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.logger import configure

    model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, device="cpu", seed=0)
    for kind in ("csv", "json", "tensorboard", "log"):
        (out / kind).mkdir()
        model.set_logger(configure(str(out / kind), [kind]))
        model.learn(320)


def mmengine(out):
    """Epochs of eight iterations with an evaluation each: `scalars.json`, and a text log."""
    import torch
    from mmengine.evaluator import BaseMetric, Evaluator
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Points(torch.utils.data.Dataset):
        def __len__(self):
            return 32

        def __getitem__(self, index):
            return torch.full((4,), float(index)), torch.tensor(index % 2)

    class Net(BaseModel):
        def __init__(self):
            super().__init__()
            self.layer, self.seen = torch.nn.Linear(4, 2), 0

        def forward(self, rows, labels, mode="tensor"):
            found = self.layer(torch.stack(rows))
            if mode != "loss":
                return [found]
            self.seen += 1
            loss = torch.nn.functional.cross_entropy(found, torch.stack(labels))
            return {"loss": loss * math.nan if self.seen > 20 else loss}

    class Accuracy(BaseMetric):
        def process(self, _, __):
            self.results.append(1)

        def compute_metrics(self, _):
            return {"accuracy": 0.5}

    def loader(*, shuffle):
        return {"batch_size": 4, "dataset": Points(), "sampler": {"type": "DefaultSampler", "shuffle": shuffle}}

    Runner(
        model=Net(), work_dir=str(out), experiment_name="run", randomness={"seed": 0},
        train_dataloader=loader(shuffle=True), train_cfg={"by_epoch": True, "max_epochs": 3, "val_interval": 1},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 1e-4}},
        val_dataloader=loader(shuffle=False), val_cfg={}, val_evaluator=Evaluator([Accuracy()]),
        default_hooks={"logger": {"type": "LoggerHook", "interval": 2}, "checkpoint": None},
    ).train()  # fmt: skip


def ultralytics(out):
    """Four epochs of the smallest YOLO on four pictures of a square. It recovers from a NaN by itself, so none is made.

    torchvision's own operators exist for some builds of torch only; the one that is needed has a stand-in in the
    library.
    """
    os.environ |= {"YOLO_CONFIG_DIR": str(out), "YOLO_OFFLINE": "true"}
    sys.modules["torchvision._meta_registrations"] = types.ModuleType("none")
    import cv2
    import numpy as np
    import torchvision
    from ultralytics import YOLO, settings
    from ultralytics.utils.nms import TorchNMS

    torchvision.ops.nms = TorchNMS.nms
    settings.update({"mlflow": False, "wandb": False, "tensorboard": False})  # each would log as well, if it is there
    data = out / "data"
    for name in ("images", "labels"):
        (data / name).mkdir(parents=True)
    for number in range(4):
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[16:48, 16:48] = 200 + number
        cv2.imwrite(str(data / f"images/{number}.png"), picture)
        (data / f"labels/{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (data / "data.yaml").write_text(f"path: {data}\ntrain: images\nval: images\nnames: {{0: box}}\n")
    YOLO("yolo11n.yaml").train(
        data=str(data / "data.yaml"), epochs=4, imgsz=64, batch=2, device="cpu", workers=0, plots=False, amp=False,
        project=str(out), name="run", optimizer="SGD", lr0=0.001, seed=0, verbose=False,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------- libraries that log


def tensorboard(out):
    """Scalars of two writers in one folder, as after a restart; a text, a histogram and a picture between them."""
    import numpy as np
    from torch.utils.tensorboard import SummaryWriter

    random.seed(0)
    for first, last in ((0, 15), (15, STEPS)):
        with SummaryWriter(str(out), filename_suffix=f".{first}") as writer:
            for step in range(first, last):
                writer.add_scalar("Loss/train", curve(step), step)
                writer.add_scalar("lr", 1e-3, step)
            writer.add_text("about", "a text")
            writer.add_histogram("weights", np.arange(10), last)
            writer.add_image("square", np.zeros((3, 8, 8), np.uint8), last)


def tensorboard_tensors(out):
    """TensorFlow 2's writer keeps a scalar as a tensor; TensorBoard itself can write these without TensorFlow."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.scalar.metadata import create_summary_metadata
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    writer = EventFileWriter(str(out))
    about = create_summary_metadata("", "")
    for step in range(STEPS):
        tensor = make_tensor_proto(curve(step), dtype="float32")
        value = Summary.Value(tag="epoch_loss", tensor=tensor, metadata=about)
        writer.add_event(Event(step=step, wall_time=1.7e9 + step, summary=Summary(value=[value])))
    writer.close()


def wandb(out):
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB__DISABLE_STATS": "true"}
    import wandb as library

    settings = library.Settings(
        x_disable_stats=True, x_disable_meta=True, disable_git=True, save_code=False, disable_code=True, console="off",
        host="host", x_disable_machine_info=True,
    )  # fmt: skip
    run = library.init(project="p", dir=str(out), config={"lr": 0.1}, id="sample", settings=settings)
    for step in range(STEPS):
        run.log({"train/loss": curve(step), "lr": 1e-3, "nested": {"deep": step}})
    run.finish()


def mlflow(out):
    """The same run in files and in a database; two metrics of a step in one call, one alone, one with a nested name."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    import mlflow as library

    (out / "database").mkdir()
    stores = {"files": f"file:{out}/files/mlruns", "database": f"sqlite:///{out}/database/mlflow.db"}
    for name, store in stores.items():
        library.set_tracking_uri(store)
        place = f"file:{out}/{name}/mlruns"
        experiment = library.create_experiment("curves", None if name == "files" else f"{place}/1")
        with library.start_run(experiment_id=experiment):
            library.log_params({"lr": 0.1})
            for step in range(STEPS):
                library.log_metrics({"train_loss": curve(step), "lr": 1e-3}, step=step)
                library.log_metric("deep/nested", step, step=step)
            library.log_text("the first artifact makes the folder", "note.txt")


PROGRAMS = (
    lightning, keras, huggingface, baselines, mmengine, ultralytics, tensorboard, tensorboard_tensors, wandb, mlflow,
)  # fmt: skip


def main(arguments):
    """Runs one program here."""
    (program,) = (one for one in PROGRAMS if one.__name__ == arguments[1])
    out = Path(arguments[0]).resolve() / arguments[1]
    out.mkdir(parents=True)
    program(out)


if __name__ == "__main__":
    main(sys.argv[1:])
