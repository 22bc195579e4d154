"""The base of FDA and Proxy-FDA: neighbours, hard-class batches, a loss that learns."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, cast, get_args

import torch
from torch import Tensor
from typing_extensions import Unpack

from avalanche_proxyfda._checks import check_choice, check_count
from avalanche_proxyfda._protocols import AccumulatingStrategy, Strategy
from avalanche_proxyfda._random import preserved_rng
from avalanche_proxyfda._tensors import kept
from avalanche_proxyfda.data.hard_class import SAMPLES_PER_CLASS, HardClassBatches, Mining
from avalanche_proxyfda.data.mining import SigmoidValues
from avalanche_proxyfda.distributed.plugin import shard_of
from avalanche_proxyfda.losses.chunks import ChunkSize
from avalanche_proxyfda.losses.fda import FDALoss
from avalanche_proxyfda.losses.graph import GraphLoss, NegativeWeight
from avalanche_proxyfda.plugins.base.auto_weight import Weight
from avalanche_proxyfda.plugins.base.learned import LearnedLossOptions, LearnedLossPlugin
from avalanche_proxyfda.plugins.base.online import in_eval_mode, train_on_hardest
from avalanche_proxyfda.plugins.base.preset import PAPER_BATCH, under_preset
from avalanche_proxyfda.plugins.base.weak import WeakMethod
from avalanche_proxyfda.strategies.precision import autocast_dtype

_log = logging.getLogger(__name__)
L = TypeVar("L", bound=GraphLoss)
Start = Literal["fitted", "siglip", "refit"]


class GraphOptions(LearnedLossOptions, total=False):
    """Keyword arguments of the plugins on the neighbour graph; see :class:`GraphPlugin`."""

    preset: Literal["paper"] | None
    num_neighbors: int | None
    neighbor_factor: int
    hard_class_batches: bool | None
    mining: Mining | None
    candidates: int | None
    start: Start | None
    negative_weight: NegativeWeight
    init_logit_scale: float
    init_logit_bias: float
    learnable: bool
    chunk_size: ChunkSize
    classes_per_batch: int
    samples_per_class: int | None
    seed: int


class GraphPlugin(LearnedLossPlugin[L]):
    """Transfers the teacher's neighbour graph of each batch.

    A method implements :meth:`build_loss`, and :meth:`compare` with :meth:`graph_loss`.

    Args:
        preset: ``"paper"`` fixes the letter of the paper, the options of
            :data:`~avalanche_proxyfda.plugins.base.preset.PAPER`.
        num_neighbors: K, below the batch size. None takes ``neighbor_factor`` times the samples
            of a class in the batch, but at most half of the other samples; a batch that is
            smaller than the others has a K in proportion (both ours).
        neighbor_factor: K / n if ``num_neighbors`` is None. The paper chooses among 1, 2, 3 and
            4 for each data set, and 2 is its best fixed factor.
        hard_class_batches: the plugin CHANGES THE TRAINING DATA by default. None and True
            replace the strategy's loader by class-balanced batches of classes that are chosen
            by ``mining``. An epoch has as many images as before, rounded up to whole batches,
            but small classes repeat theirs, and large classes leave some out until a later
            epoch. With None, the first experience that leaves images out gives a warning with
            their number and the largest number of repeats; later ones are logged. False keeps
            the strategy's loader, which draws every image once an epoch. An experience with one
            class keeps it too, with a warning.
        mining: the rule that chooses the classes of a batch if an experience has more classes
            than a batch; None takes ``"bank"``. ``"online"`` is the paper's: the student and the
            teacher embed C candidate classes before each step, and the classes with the largest
            FDA loss are added one by one. ``"bank"`` (ours) applies the same rule at the start
            of each epoch to all classes, on features that are stored as they pass in training,
            so no step has an additional forward. Its choice for the first epoch of an experience
            is older than the fitted scale and bias. ``"prototypes"`` (ours) adds the class with the
            nearest mean in the teacher's space. ``"random"`` draws the classes.
        candidates: C of ``"online"``, at least ``classes_per_batch``; None takes three times
            ``classes_per_batch``. The paper does not give C. Other rules refuse it.
        start: start of scale and bias; None takes ``"fitted"``. ``"fitted"`` (ours) sets both
            before the first step of an experience, to the minimiser of the loss of its first
            batch with the teacher in the student's place. ``"siglip"`` is the paper's: both
            begin at ``init_logit_scale`` and ``init_logit_bias`` in the first experience.
            ``"refit"`` (ours) fits both at every step. docs/fidelity.md compares them.
        negative_weight: weight of non-neighbours. ``"similarity"`` is the paper's, minus the
            teacher's cosine; ``"clamped"`` (ours) is at most 0; see
            :func:`~avalanche_proxyfda.losses.graph.edge_weight` for all.
        init_logit_scale: 1 / tau at the start, unless ``start`` fits it.
        init_logit_bias: b at the start, unless ``start`` fits it.
        learnable: True learns scale and bias in training, unless ``start`` is ``"refit"``.
        chunk_size: queries that the loss processes at a time; ``"auto"`` limits the memory of
            large batches.
        classes_per_batch: m, classes in a hard-class batch.
        samples_per_class: n, samples of each of them; None fills the strategy's
            ``train_mb_size``.
        seed: seed of the plugin's random streams; global streams are not used.
        options: see :class:`LearnedLossPlugin`.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range, or one that
            contradicts ``preset``.
    """

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        preset: Literal["paper"] | None = None,
        num_neighbors: int | None = None,
        neighbor_factor: int = 2,
        hard_class_batches: bool | None = None,
        mining: Mining | None = None,
        candidates: int | None = None,
        start: Start | None = None,
        negative_weight: NegativeWeight = "similarity",
        init_logit_scale: float = 10.0,
        init_logit_bias: float = -10.0,
        learnable: bool = True,
        chunk_size: ChunkSize = "auto",
        classes_per_batch: int = 16,
        samples_per_class: int | None = None,
        seed: int = 0,
        **options: Unpack[LearnedLossOptions],
    ) -> None:
        super().__init__(weight, **options)
        check_choice("preset", preset, (None, "paper"))
        self.preset = preset
        if hard_class_batches is False and (mining, candidates) != (None, None):
            raise ValueError(
                f"mining={mining!r} and candidates={candidates!r} have no effect with "
                "hard_class_batches=False: leave them out, or take hard-class batches"
            )
        mining = under_preset(preset, "mining", mining, "bank")
        start = under_preset(preset, "start", start, "fitted")
        samples_per_class = under_preset(preset, "samples_per_class", samples_per_class)
        for name, value in (
            ("num_neighbors", num_neighbors),
            ("hard_class_batches", hard_class_batches),
            ("classes_per_batch", classes_per_batch),
            ("negative_weight", negative_weight),
            ("init_logit_scale", init_logit_scale),
            ("init_logit_bias", init_logit_bias),
            ("learnable", learnable),
        ):
            under_preset(preset, name, value)
        self.seed = check_count("seed", seed, 0)
        check_choice("hard_class_batches", hard_class_batches, (None, True, False))
        check_choice("start", start, get_args(Start))
        check_choice("mining", mining, get_args(Mining))
        self.start = start
        self.neighbor_factor = check_count("neighbor_factor", neighbor_factor, 1)
        if num_neighbors is not None:
            check_count("num_neighbors", num_neighbors, 1)
            if neighbor_factor != 2:
                raise ValueError(
                    f"num_neighbors={num_neighbors} and neighbor_factor={neighbor_factor} both "
                    "give K: leave one of them out"
                )
        self.num_neighbors, self.samples_per_class = num_neighbors, samples_per_class
        sigmoid = WeakMethod(self, "sigmoid")
        batches = HardClassBatches(
            classes_per_batch, samples_per_class, seed, mining, candidates, sigmoid
        )
        self._batches = None if hard_class_batches is False else batches
        self._says_left_out = hard_class_batches is None
        if self._batches is not None and mining == "online" and self.graph_from == "accumulated":
            raise ValueError(
                "mining='online' chooses the samples of one micro-batch, and "
                "graph_from='accumulated' relates several: take mining='bank' or "
                "graph_from='micro-batch'"
            )
        self.mining_forwards = 0
        """Student forwards so far that only choose a batch; 0 unless mining is ``"online"``."""
        self._started = False  # in this experience
        self.loss_options: dict[str, Any] = {
            "num_neighbors": num_neighbors
            or neighbor_factor * (samples_per_class or SAMPLES_PER_CLASS),
            "negative_weight": negative_weight,
            "init_logit_scale": init_logit_scale,
            "init_logit_bias": init_logit_bias,
            "learnable": learnable and start != "refit",
            "chunk_size": chunk_size,
        }
        FDALoss(**self.loss_options)  # refuses bad options now, not at the first batch

    # ---- the loss ---------------------------------------------------------------------

    def graph_loss(self, student: Tensor, teacher: Tensor) -> L:
        """Return the loss of a batch, and keep the student's features for mining.

        The first batch builds the loss. The first batch of an experience fits scale and bias,
        as ``start`` says. Reference images are no training samples: their features are not
        kept, and scale and bias are not fitted again to them.

        Args:
            student: [B, D], features of the whole batch.
            teacher: [B, D'], the teacher's features of the same batch.
        """
        loss = self.loss_for(student)
        loss.default_neighbors = self.num_neighbors is None
        loss.num_neighbors = self.neighbors_in(len(student))
        if self._batches is not None and not self.on_reference and not self.measuring:
            self._batches.keep(student)
        refits = self.start == "refit" and not self.on_reference and not self.measuring
        fits = refits or (self.start == "fitted" and not self._started)
        if fits and self.uses_sigmoid():
            loss.fit(teacher)
            if self.optimizer is not None:
                for parameter in (loss.log_scale, loss.bias):
                    self.optimizer.state.pop(parameter, None)  # moments of other values
        self._started = True
        return loss

    def uses_sigmoid(self) -> bool:
        """Return True if scale and bias have a use, so that ``start`` fits them."""
        return True

    def sigmoid(self) -> SigmoidValues:
        """Return scale, bias and weights of Eq. 2 as they are now, for mining."""
        options = self.loss_options
        scale, bias = options["init_logit_scale"], options["init_logit_bias"]
        if self.loss is not None:
            scale, bias = self.loss.log_scale.detach().exp(), self.loss.bias.detach()
        return SigmoidValues(scale, bias, options["negative_weight"])

    # ---- an experience ----------------------------------------------------------------

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Install the hard-class batches; check K against the size of a batch."""
        size = strategy.train_mb_size
        each = self.samples_per_class or SAMPLES_PER_CLASS
        if self.preset == "paper" and new and size < PAPER_BATCH:
            warnings.warn(
                f"preset='paper' has batches of 16 classes with 4 samples; train_mb_size={size} "
                f"has room for {size // 4} classes: give train_mb_size={PAPER_BATCH}",
                stacklevel=2,
            )
        if self._batches is not None:
            labels = getattr(strategy.experience, "task_labels", None) or [0]
            ask = self.ask_teacher(labels[0], autocast_dtype(strategy))
            self._batches.install(strategy, lambda images: self.pooled(ask(images)), loading)
            self._warn_of_mining(strategy)
            assert self.reference is not None
            self.reference.forget()
            if state.get("sampler") is not None:
                self._batches.resume(state["sampler"])
            size = self._batches.batch_size or size
            each = self._batches.samples_of_class or each
        if self.graph_from == "accumulated":
            size *= cast("AccumulatingStrategy", strategy).accumulate
        self._started = bool(state.get("started", self._started and not new))
        self.full_batch = size
        self._set_neighbors(size, each)
        super().prepare(strategy, state, new, loading)

    def _warn_of_mining(self, strategy: Strategy) -> None:
        """Warn once if a plugin before this one chooses the batches by another rule."""
        assert self._batches is not None
        for plugin in self.plugins_before(strategy):
            other = plugin._batches if isinstance(plugin, GraphPlugin) else None
            if other is None:
                continue
            if other.mining != self._batches.mining:
                self.warn_once(
                    "mining",
                    f"mining={self._batches.mining!r} has no effect: {type(plugin).__name__} "
                    f"stands before and chooses the batches with mining={other.mining!r}; give "
                    "both the same (this warning comes once)",
                )
            return

    def _set_neighbors(self, size: int, each: int) -> None:
        """Set K for batches of ``size`` samples with ``each`` samples of a class."""
        if self.num_neighbors is None:
            wanted = self.neighbor_factor * each
            self.loss_options["num_neighbors"] = max(1, min(wanted, (size - 1) // 2))
        elif self.num_neighbors >= size:
            raise ValueError(
                f"num_neighbors={self.num_neighbors} must be below the training batch, "
                f"which holds {size} samples: lower num_neighbors or raise train_mb_size"
            )

    def neighbors_in(self, batch: int) -> int:
        """Return K for a batch of ``batch`` samples; a smaller batch has K in proportion (ours).

        The last batch of an epoch may be small. With the K of a full batch, most of its samples
        would be neighbours, and the term would pull them all together. A K that the user chose
        stays as it is.
        """
        full: int = self.loss_options["num_neighbors"]
        if self.num_neighbors is not None or batch >= self.full_batch:
            return full
        return max(1, round(full * (batch - 1) / (self.full_batch - 1)))

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Set the epoch of the hard-class batches."""
        if self._batches is not None:
            self._batches.start_epoch(strategy)
            self._say_left_out(strategy, begins=True)
        super().before_training_epoch(strategy, **kwargs)

    def after_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Say how many images the first epoch left out; publish the terms' means."""
        self._say_left_out(strategy, begins=False)
        super().after_training_epoch(strategy, **kwargs)

    def _say_left_out(self, strategy: Strategy, begins: bool) -> None:
        """Warn once of an epoch that leaves images out, unless the user asked for such batches."""
        if self._batches is None or not self._says_left_out:
            return
        sentence = self._batches.left_out(strategy, begins)
        if sentence is not None:
            _log.info("%s", sentence)
            self.warn_once(
                "left out",
                f"{sentence}. Each epoch draws anew (this warning comes once). Pass "
                "hard_class_batches=False for shuffled batches of all images, or True for "
                "balanced batches without this warning",
            )

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Choose the batch among the candidates of the loader, with ``mining="online"``."""
        super().before_training_iteration(strategy, **kwargs)
        if self._batches is not None and self._batches.chooses:
            assert self._batches.sampler is not None
            student, teacher = self._embed(strategy)
            sizes = self._batches.sampler.trains
            train_on_hardest(strategy, student, teacher, sizes, self.sigmoid())

    @torch.no_grad()
    def _embed(self, strategy: Strategy) -> tuple[Tensor, Tensor]:
        """Return both models' embeddings of the strategy's batch, in eval mode, [B, D] each."""
        assert self._tap is not None
        self._tap.arm(without_gradient=True)
        with preserved_rng(strategy.device), in_eval_mode(strategy.model):
            cast("AccumulatingStrategy", strategy).forward()
        self.mining_forwards += 1
        student = self._tap.take()
        self.check_student(student, len(strategy.mb_x))
        self._shard = shard_of(strategy)
        rows = kept(self.read(student))  # before the teacher's forward
        return rows, self.read(self.ask(strategy))

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Forget the batch, and count it."""
        super().after_training_iteration(strategy, **kwargs)
        if self._batches is not None:
            self._batches.count_step()

    def stop(self) -> None:
        """End an experience; release the batches."""
        super().stop()
        if self._batches is not None:
            self._batches.remove()

    # ---- saved state ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base and of the sampler."""
        batches = self._batches.state_dict() if self._batches else None
        return {
            **super().state_dict(),
            "sampler": batches or self.pending.get("sampler"),
            "started": self.pending.get("started", self._started),
            "mining_forwards": self.mining_forwards,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        super().load_state_dict(state)
        self.mining_forwards = state.get("mining_forwards", 0)
