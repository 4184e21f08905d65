"""LRFinder: a learning-rate range test of any torch model that can be undone without a trace."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich import get_console
from rich.progress import track
from torch import nn, optim

from trainer.lr_finder import checks
from trainer.lr_finder.climb import Climb
from trainer.lr_finder.loaders import as_train_iter, as_val_iter
from trainer.lr_finder.losses import BatchLoss
from trainer.lr_finder.rates import Rate, planned_rates
from trainer.lr_finder.record import SUGGEST, Record
from trainer.lr_finder.snapshot import Snapshot
from trainer.lr_finder.surroundings import undisturbed
from trainer.range_test.stopping import StopRule

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class LRFinder:
    """A learning-rate range test (Smith 2017, arXiv:1506.01186): trains while the rate climbs, and looks at the loss.

    Takes the place of torch_lr_finder.LRFinder. The test trains the model, until `reset()` brings back what was there.
    Random numbers, the order of the data, training modes and gradients are brought back when the test ends, and
    everything when it fails or is interrupted.

    Args:
        model: what is trained; several modules in an nn.ModuleDict.
        optimizer: its rates, where they differ between groups, give the ratio that is kept.
        criterion: criterion(outputs, labels) -> loss, or a dict of them; None with a `step_fn`, or with a model that
            returns its loss.
        device: where to compute; None is where the model is.
        memory_cache, cache_dir: whether the copy for `reset()` lies in memory, or in a file in `cache_dir` (None: the
            system's folder for such) that is removed with this object.
        amp_backend: "torch" computes under torch.amp.autocast(**amp_config), with `grad_scaler`, without which only
            bfloat16 can do.
        step_fn: step_fn(batch) -> loss, or a dict of losses, for batches and models of any kind, in place of model and
            criterion. Neither backward() nor the step of `optimizer` belongs into it.
        loss_weights: of several losses, by name; 1 each by default.
        batch_keys: the keys of inputs and labels in batches that are dicts; None finds usual names.
        also_restore: what else a step_fn changes, such as the other network of a GAN and its optimizer: anything with
            state_dict and load_state_dict.

    Attributes:
        history: "lr", the rate of the first parameter group in each update, and "loss", smoothed.
        record: all that was measured, and why the test ended; see trainer.lr_finder.record.Record.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        criterion: Any,
        device: str | torch.device | None = None,
        memory_cache: bool = True,
        cache_dir: str | Path | None = None,
        amp_backend: str | None = None,
        amp_config: Mapping[str, Any] | None = None,
        grad_scaler: Any = None,
        *,
        step_fn: Callable[[Any], Any] | None = None,
        loss_weights: Mapping[str, float] | None = None,
        batch_keys: tuple[str, str] | None = None,
        also_restore: Iterable[Any] = (),
    ) -> None:
        also_restore = list(also_restore)
        checks.check_parts(model, optimizer, also_restore)
        checks.check_cache_dir(cache_dir)
        checks.check_precision(amp_backend, amp_config, grad_scaler)
        self.model, self.optimizer, self.criterion = model, optimizer, criterion
        self.memory_cache, self.cache_dir = memory_cache, cache_dir
        self.amp_backend, self.amp_config, self.grad_scaler = amp_backend, amp_config, grad_scaler
        self.model_device = next(model.parameters()).device
        self.device = self.model_device if device is None else torch.device(device)
        self.batch_keys = batch_keys
        self._warned = checks.warn_of_scheduler(optimizer)

        self._loss = BatchLoss(model, criterion, step_fn, loss_weights)
        criteria = criterion.values() if isinstance(criterion, Mapping) else [criterion]
        self._modules = [module for module in (model, *criteria, *also_restore) if isinstance(module, nn.Module)]
        others = [item for item in (*also_restore, grad_scaler) if item is not None and item not in self._modules]
        self._snapshot = Snapshot(optimizer, [*self._modules, *others], memory_cache, cache_dir)
        self._changed = False  # since the snapshot, by a test
        self.record = Record(0.0)

    @property
    def history(self) -> dict[str, list[float]]:
        return self.record.history

    @property
    def best_loss(self) -> float | None:
        return min(self.history["loss"], default=None)

    def reset(self) -> None:
        """Bring model, optimizer, grad scaler and `also_restore` back to where they were before the range test (or,
        without one, when this object was made). However often it is called, it brings back the same."""
        if self.device != self.model_device:
            self.model.to(self.model_device)
        self._snapshot.restore()
        self._changed = False

    def range_test(
        self,
        train_loader: Any,
        val_loader: Any = None,
        start_lr: Rate = None,
        end_lr: Rate = 10,
        num_iter: int = 100,
        step_mode: str = "exp",
        smooth_f: float = 0.05,
        diverge_th: float | None = 5,
        accumulation_steps: int = 1,
        non_blocking_transfer: bool = True,
        *,
        spike_th: float | None = None,
    ) -> None:
        """Make up to `num_iter` updates while the rate climbs from `start_lr` to `end_lr`, and fill `history`.

        Args:
            train_loader: a DataLoader or a TrainDataLoaderIter; begun anew as often as needed.
            val_loader: a DataLoader or a ValDataLoaderIter; its mean loss after each update then takes the place of the
                training loss.
            start_lr, end_lr: of the first parameter group, the others keep their ratio to it; or lists with one rate
                per group. `start_lr=None` starts from the optimizer's own.
            step_mode: "exp" climbs in equal factors, "linear" in equal differences.
            smooth_f: weight of the newest loss in the moving average; 0 does not smooth.
            diverge_th: stops once the smoothed loss exceeds this many times its best; None never. Losses that are not
                positive are judged as trainer.range_test.stopping says.
            accumulation_steps: batches in one update; the loss is their mean.
            spike_th: stops at one loss so many times the usual scatter above all before it; None never.

        Raises ValueError or TypeError for arguments that can't be used, and RuntimeError where a scheduler changes the
        rates of the test.
        """
        mode = checks.check_sweep(num_iter, step_mode, smooth_f, diverge_th, spike_th, accumulation_steps)
        train = as_train_iter(train_loader)
        iterators = (train,) if val_loader is None else (train, as_val_iter(val_loader))
        if self._changed:  # each test starts from the weights it was given, not from what the one before left
            text = "the weights are put back to where they were before the last range test"
            warnings.warn(f"{text}; reset() after it does so without this warning", stacklevel=2)
            self.reset()
        self._warned = self._warned or checks.warn_of_scheduler(self.optimizer)
        checks.check_scheduled_rates(self.optimizer, start_lr)
        plan = planned_rates(self.optimizer, start_lr, end_lr, num_iter, mode)
        rule = StopRule(diverge_threshold=diverge_th, spike_threshold=spike_th, smooth=smooth_f or 1.0)
        climb = self._climb(accumulation_steps, non_blocking_transfer)

        self._snapshot.take()
        self._changed = True
        self.record = Record(smooth_f)
        try:
            with undisturbed(self._modules, self.optimizer, [iterator.data_loader for iterator in iterators]):
                self._go_to_device()
                if not self.model.training:  # where it trains, parts of it may be in eval mode on purpose
                    self.model.train()
                for iterator in iterators:
                    iterator.restart()
                    iterator.batch_keys = iterator.batch_keys or self.batch_keys
                shown = track(plan, "Range test", transient=True, disable=not get_console().is_terminal)
                self.record.follow(climb.steps(shown, *iterators), rule, len(plan))
        except BaseException:  # Ctrl-C too
            self.reset()
            raise
        finally:
            for iterator in iterators:
                iterator.restart()
        print(
            f"Range test: {len(self.record)} of {len(plan)} updates{self.record.why_stopped()}. See it with plot(), "
            "bring back model and optimizer with reset()."
        )

    def find_lr(
        self,
        loader: Any,
        start_lr: Rate = 1e-7,
        end_lr: Rate = 10,
        num_iter: int = 100,
        smooth_factor: float = 0.05,
        diverge_threshold: float | None = 5,
    ) -> tuple[list[float], list[float], float | None]:
        """A range test after which everything is brought back: its rates, smoothed losses and suggestion."""
        self.range_test(loader, None, start_lr, end_lr, num_iter, smooth_f=smooth_factor, diverge_th=diverge_threshold)
        self.reset()
        suggested = self.get_suggested_lr() if len(self.record) else None
        return self.history["lr"], self.history["loss"], suggested

    def get_suggested_lr(self, method: str = SUGGEST, skip_start: int = 10, skip_end: int = 5) -> float | None:
        """The rate of the first parameter group that the rule `method` gives: steepest, valley, slide or minimum, see
        trainer.range_test.suggestions. None, with a warning, where the curve is flat or the rule finds nothing."""
        return self.record.suggestion(method, skip_start, skip_end)

    def plot(
        self,
        skip_start: int = 10,
        skip_end: int = 5,
        log_lr: bool = True,
        show_lr: float | None = None,
        ax: Axes | None = None,
        suggest_lr: bool = True,
        *,
        save_path: str | Path | None = None,
        suggest: bool | str | None = None,
        save_csv: bool | str | Path | None = None,
        annotate: bool | None = None,
        auto_reset: bool | None = None,
    ) -> Any:
        """Draw the loss over the rate.

        Returns what torch-lr-finder does: axes and suggestion, or with `suggest_lr=False` the axes alone. With one of
        the keywords after the `*` it returns the suggestion alone, and tells more in the picture. A suggestion is None
        where the curve gives none.

        Args:
            skip_start, skip_end: points left out at the ends.
            show_lr: a rate to mark.
            ax: axes to draw into; None makes a figure, and shows it unless it is saved.
            save_path: the picture's file.
            suggest: the same as `suggest_lr`; or the rule to use, as in `get_suggested_lr`.
            save_csv: True writes step, lr, loss and smoothed loss beside `save_path`, or else to lr_finder.csv here; or
                the file's path.
            annotate: zones of rates too low, good and too high, and the suggestion in numbers.
            auto_reset: `reset()` afterwards, unless it was called since the test.
        """
        from trainer.lr_finder import drawing  # matplotlib takes long to import

        checks.check_plot(skip_start, skip_end, show_lr, log_lr)
        explained = any(option is not None for option in (save_path, suggest, save_csv, annotate, auto_reset))
        suggest_lr = suggest_lr if suggest is None else bool(suggest)
        rule = suggest if isinstance(suggest, str) else SUGGEST
        got, needed = len(self.record), skip_start + skip_end + 2
        if suggest_lr and not explained and 0 < got < needed:
            raise RuntimeError(
                f"a suggestion needs {needed} updates, skip_start + skip_end + 2, but the range test made {got}"
                f"{self.record.why_stopped()}; skip fewer, or test more rates"
            )
        suggestion = self.record.suggestion(rule, skip_start, skip_end) if suggest_lr else None
        axes = drawing.new_axes() if ax is None else ax
        if explained:
            drawing.draw_explained(axes, self.record, rule, suggestion, skip_start, skip_end, bool(annotate))
        else:
            drawing.draw_plain(axes, self.history, suggestion, skip_start, skip_end)
        drawing.finish(axes, show_lr, log_lr, save_path, show=ax is None)
        if save_csv:
            self.record.write_csv(save_csv, save_path)
        if auto_reset and self._changed:
            self.reset()
        if explained:
            return suggestion
        return (axes, suggestion) if suggest_lr else axes

    def _climb(self, accumulation: int, non_blocking: bool) -> Climb:
        mixed = self.amp_backend == "torch"
        return Climb(
            model=self.model,
            optimizer=self.optimizer,
            loss=self._loss,
            device=self.device,
            autocast_options=(self.amp_config or {}) if mixed else None,
            scaler=self.grad_scaler if mixed else None,
            accumulation=accumulation,
            non_blocking=non_blocking,
        )

    def _go_to_device(self) -> None:
        if self.device != self.model_device:
            self.model.to(self.device)
            self.optimizer.load_state_dict(self.optimizer.state_dict())  # its state goes where the parameters are
