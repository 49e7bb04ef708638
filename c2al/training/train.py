"""``c2al train``: one run, on as many ranks as torchrun started, from config to report.

c2al train data=complete_journey data.path=DIR model=dhen method=baseline
torchrun --nproc-per-node 2 -m c2al train …
"""

import logging
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig, OmegaConf

from c2al.model import Ranker, num_parameters
from c2al.parallel import ranks as process_group
from c2al.parallel.environment import by_torchrun
from c2al.parallel.lost import Watch
from c2al.parallel.optimizers import NonFiniteError, Optimizers, dense_adam, replicated_tables
from c2al.parallel.pipelines import model_alone, pipeline
from c2al.parallel.pulse import Pulse
from c2al.parallel.ranks import Ranks, together
from c2al.parallel.signals import Stopped, stop_signal
from c2al.parallel.threads import Threads, set_number, usable_cores
from c2al.schema import Schema
from c2al.training import build, encoding
from c2al.training.auxiliaries import auxiliaries
from c2al.training.averaging import WeightAverage
from c2al.training.busy import BusyCores
from c2al.training.checkpoint import Checkpoints
from c2al.training.checkpoint_faults import tell
from c2al.training.console import StepBar
from c2al.training.evaluate import evaluate_splits
from c2al.training.events import Snapshots, TrainLog, Validation
from c2al.training.loop import Loop, Progress
from c2al.training.non_finite import refuse
from c2al.training.resume import go_on, last_step, refuse_other_config, schedule_of
from c2al.training.run_folder import RunFolder, provenance, start_logged
from c2al.training.settings import check_columns, check_settings
from c2al.training.table_options import table_rates

log = logging.getLogger(__name__)

BEFORE_STEPS = " before a step was made: nothing is lost"
FOR_ANOTHER = "; if nobody sent it, torchrun did, and names below the rank that failed"


def train(config: DictConfig) -> dict[str, Any]:
    """Train, evaluate and report one run; the report, on every rank."""
    stop_signal.graceful, stop_signal.remark = False, BEFORE_STEPS + (FOR_ANOTHER if by_torchrun() else "")
    with start_logged(config.run_dir):
        ranks = process_group.start(timeout_s=config.training.timeout_s, threads=config.training.threads)
        watch = Watch(ranks)
    resume, overwrite = config.resume, config.overwrite
    with watch, RunFolder(config.run_dir, ranks=ranks, resume=resume, overwrite=overwrite) as folder, watch.named():
        run = Training(config, ranks, folder)
        with run.checkpoints:
            run.begin()
            run.steps()
            return run.report()


class Training:
    """The parts of one run, made in the order of distribution, and what is done with them.

    ``begin``, ``steps`` and ``report`` are a run; what only evaluates uses the model and the checkpoints.
    """

    def __init__(self, config: DictConfig, ranks: Ranks, folder: RunFolder) -> None:
        self.config, self.ranks, self.folder = config, ranks, folder
        self.threads = ranks.threads
        options = config.training
        ranks.place.name = "planning"
        together(lambda: check_settings(config))
        self.schema = together(lambda: Schema.load(config.data.path))
        together(lambda: check_columns(config, self.schema))
        heads = together(lambda: auxiliaries(config, self.schema))
        self.placements = together(
            lambda: build.place(
                config,
                self.schema,
                world_size=ranks.world_size,
                ranks_per_host=ranks.local_world_size,
                device=ranks.device.type,
            )
        )
        self.reader = build.build_reader(config, ranks, split="train", axes=heads.axes, shuffle=True)
        self.progress = self._at_start()
        model = together(lambda: build.build_training_model(config, self.schema, heads))
        self.objective = model.objective
        self.sharded = build.distribute(config, model, self.placements, ranks)
        self.optimizers = Optimizers(
            self.sharded.fused_optimizer,
            dense_adam(
                self.sharded, learning_rate=options.dense.learning_rate, weight_decay=options.dense.weight_decay
            ),
            replicated=replicated_tables(self.sharded, self.placements, table_rates(config)),
            schedule=schedule_of(self.progress, options),
            max_grad_norm=options.max_grad_norm,
            accumulate=options.accumulate,
        )
        self.average = WeightAverage(self.sharded, decay=options.average) if options.average else None
        about = {name: value for name, value in provenance(ranks).items() if name in ("c2al", "commit", "versions")}
        folder_of_data, axes = config.data.path, heads.axes
        names = [each.name for columns in build.chosen_columns(config, self.schema) for each in columns]
        data = together(  # rank 0 alone writes and checks it
            lambda: encoding.describe(folder_of_data, self.schema, columns=names, axes=axes) if ranks.is_first else {}
        )
        self.checkpoints = Checkpoints(
            options.checkpoints or str(folder.path / "checkpoints"),
            sharded=self.sharded,
            optimizers=self.optimizers,
            average=self.average,
            placements=self.placements,
            ranks=ranks,
            keep=options.keep_checkpoints,
            beside=options.checkpoint_async,
            about=about | {"data": data},
            check_data=lambda saved, file: encoding.check(saved, folder_of_data, self.schema, axes=axes, file=file),
        )

    def begin(self) -> None:
        """Stand at step 0, or where ``resume`` finds the last checkpoint, with all that watches training at hand."""
        config, ranks, folder, options = self.config, self.ranks, self.folder, self.config.training
        process_group.seed_everything(config.seed * 1_000_003 + ranks.rank)  # from here on ranks may draw differently
        if not (folder.resume and process_group.broadcast((folder.path / "config.yaml").exists())):
            self.checkpoints.begin_empty(overwrite=config.overwrite)
        if folder.resume:
            together(lambda: refuse_other_config(folder.path, config))
            if found := self.checkpoints.load(without=config.resume_without):
                self._go_on(Progress(**found))
            elif config.resume and ranks.is_first:
                tell(f"resume=true finds no checkpoint in {self.checkpoints.store.place}: the run begins with step 1")
        folder.forget_after(self.progress.step, validated=not self.progress.unfinished)
        folder.write("config.yaml", OmegaConf.to_yaml(config, resolve=True))
        self.pipeline = pipeline(config.parallel.pipeline, self.sharded, self.optimizers, ranks.device)
        self.pulse = Pulse(ranks)
        self.loop = Loop(
            self.pipeline,
            self.reader,
            self.progress,
            num_steps=self.num_steps,
            world_size=ranks.world_size,
            busy=BusyCores(self.threads.number, ranks.world_size, tell if self._speaks_of_cores() else log.debug),
        )
        log.info("each rank computes with %s", self.threads)
        self.train_log = TrainLog(folder, ranks, self.progress, every=options.log_every)
        self.validation = Validation(
            folder,
            self.sharded,
            build.build_reader(config, ranks, split="validation", axes=[], shuffle=True),
            ranks,
            average=self.average,
            num_steps=options.validation_steps,
            patience=options.early_stopping,
        )
        self.snapshots = Snapshots(folder, self.sharded, build.sample_reader(config, ranks), ranks)

    def _at_start(self) -> Progress:
        options, ranks = self.config.training, self.ranks
        progress = Progress(
            num_rows=self.reader.num_rows,
            world_size=ranks.world_size,
            batch_size=options.batch_size,
            window_rows=options.window_rows,
            threads=ranks.threads.number,
            paces=[[0, 0.0, options.batch_size * ranks.world_size]],
        )
        progress.num_steps = last_step(progress, self.reader, options)
        return progress

    def _go_on(self, progress: Progress) -> None:
        """Stand where ``progress`` does, on the ranks and with the batches of now."""
        config, ranks = self.config, self.ranks
        if progress.world_size != ranks.world_size:  # the random states of other ranks are nobody's
            process_group.seed_everything([config.seed, progress.step, ranks.rank])
        without, run = config.resume_without, self.folder.path
        said = together(lambda: go_on(progress, self.reader, self.progress, without=without, run=run))
        for line in said if ranks.is_first else ():
            tell(f"going on after step {progress.step}: {line}")
        self._keep_threads(progress)
        progress.num_steps = together(lambda: last_step(progress, self.reader, config.training))
        self.progress = progress
        self.optimizers.schedule = schedule_of(progress, config.training)

    def _keep_threads(self, progress: Progress) -> None:
        """Compute with as many threads as before, where nobody asks for another number and there are as many cores."""
        before, now = progress.threads, self.threads
        progress.threads = now.number
        if before in (0, now.number):
            return
        chosen_here = "usable core" in now.why
        if chosen_here and before <= usable_cores() // self.ranks.local_world_size:
            set_number(before)
            self.threads, progress.threads = Threads(before, "as before the interruption"), before
        elif self.ranks.is_first:
            tell(f"going on with {now}, before with {before}: sums may differ in their last bits")

    def _speaks_of_cores(self) -> bool:
        return self.ranks.is_first and self.ranks.device.type == "cpu"

    @property
    def num_steps(self) -> int:
        """At which the run ends."""
        return self.progress.num_steps

    def steps(self) -> None:
        """All steps that are left, with what is due between them."""
        for _ in self.stepwise():
            pass

    def stepwise(self) -> Iterator[int]:
        """The same step by step: each is given when all that is due after it is done."""
        progress, place = self.progress, self.ranks.place
        if progress.step == 0:
            self.snapshots.take(0)
        stop_signal.graceful = True  # from here on it is looked at after every step
        if progress.unfinished:
            self._between_steps()
        place.name = f"step {progress.step + 1}"
        self.objective.at(progress.step, self.num_steps)
        with StepBar(self.num_steps, progress.step, shown=self.ranks.is_first and self.config.progress) as bar:
            try:
                for losses_H, _ in () if progress.stopped_early else self.loop:
                    self.train_log.after_step(progress, losses_H, self.optimizers, self.objective.told)
                    if self.average is not None:
                        self.average.update(progress.step)
                    self._between_steps()
                    bar.update(progress, self.train_log.last, self.validation.last)
                    if progress.stopped_early:
                        break
                    self._stop_if_asked()
                    place.name = f"step {progress.step + 1}"
                    self.objective.at(progress.step, self.num_steps)
                    yield progress.step
            except NonFiniteError as error:
                step, fed, rank = progress.step + 1, self.loop.fed, self.ranks.rank
                refuse(error, step, fed, self.objective, folder=self.folder.path, rank=rank)
            except Stopped:
                self._save()
                self.checkpoints.wait()
                raise

    def _between_steps(self) -> None:
        step, options = self.progress.step, self.config.training
        is_last = step == self.num_steps
        is_best = False
        self.progress.unfinished = True
        if self._due(step, options.evaluations):
            self.ranks.place.name = f"the validation after step {step}"
            with model_alone(self.pipeline):
                is_best = self.validation.run(self.progress, self._stop_if_asked)
        if self._due(step, options.snapshots) or is_last:
            with model_alone(self.pipeline):
                self.snapshots.take(step)
        self.progress.unfinished = False
        if is_last or step % options.checkpoint_every == 0 or (is_best and options.early_stopping):
            self._save()

    def _save(self) -> None:
        self.ranks.place.name = f"the checkpoint of step {self.progress.step}"
        best = self.progress.best_step if self.config.training.early_stopping else None
        self.train_log.keep(self.progress)
        self.checkpoints.save(self.progress.as_dict(), protect=best)

    def _stop_if_asked(self) -> None:
        """Leave on all ranks after the same step, of training or of an evaluation, where a signal came to any rank."""
        asked, failed = self.pulse.beat(stop_signal.received is not None, self.checkpoints.failed)
        if failed:
            self.pulse.rest()
            self.checkpoints.wait()
        if asked:
            self.pulse.rest()
            names = process_group.gather(stop_signal.received)
            name = next(name for name in names if name)
            said = f"stopped by {name} after step {self.progress.step}, checkpoint saved; resume=true goes on"
            raise Stopped(said, name)

    def _due(self, step: int, times: int) -> bool:
        """Whether one of ``times`` events, spread evenly over training and one at its end, falls on this step."""
        return bool(times) and step * times // self.num_steps > (step - 1) * times // self.num_steps

    def report(self) -> dict[str, Any]:
        """Final metrics and scores of the splits, and the report that marks the run as finished."""
        options = self.config.training
        self.ranks.place.name = f"the checkpoint of step {self.progress.step}"
        self.checkpoints.wait()
        self.ranks.place.name = "the final evaluation"
        if options.early_stopping and self.progress.best_step is not None:
            self.checkpoints.load(self.progress.best_step, only_weights=True)
        readers = {
            split: build.build_reader(self.config, self.ranks, split=split, axes=self.axes, shuffle=False)
            for split in options.final_splits
        }
        with model_alone(self.pipeline):
            metrics = evaluate_splits(
                self.sharded,
                readers,
                axes=self.axes,
                folder=self.config.data.path,
                run=self.folder.path,
                average=self.average,
                ranks=self.ranks,
                between=self._stop_if_asked,
            )
        self.pulse.rest()
        report = provenance(self.ranks) | {
            "plan": [asdict(placement) for placement in self.placements],
            "config": OmegaConf.to_container(self.config, resolve=True),
            "rows": self.progress.rows,
            "seconds": round(self.progress.seconds, 3),
            "rows_per_s": round(self.progress.rows / max(self.progress.seconds, 1e-9), 1),
            "progress": self.progress.as_dict(),
            "parameters": num_parameters(next(each for each in self.sharded.modules() if isinstance(each, Ranker))),
            "metrics": metrics,
        }
        report["hardware"] |= {"threads": self.threads.number, "threads_by": self.threads.why}
        self.folder.write_report(report)
        return report

    @property
    def axes(self) -> list[str]:
        """The cohort axes that are reported."""
        return list(self.config.data.axes or [axis.name for axis in self.schema.axes])
