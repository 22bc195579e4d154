"""DiGraP as an Avalanche plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from avalanche_proxyfda._checks import check_flag
from avalanche_proxyfda._protocols import Strategy
from avalanche_proxyfda.distributed.plugin import share_of
from avalanche_proxyfda.features.source import unwrap
from avalanche_proxyfda.plugins.base.anchored import AnchorPlugin
from avalanche_proxyfda.plugins.base.lifecycle import ReferenceChoice
from avalanche_proxyfda.weights.anchor import encoder_names
from avalanche_proxyfda.weights.digrap import GradientProjection


class DiGraPPlugin(AnchorPlugin, supports_distributed=True):
    """Removes the part of each gradient that points away from the anchors (arXiv 2502.15895).

    The plugin changes the gradients of all trainable tensors just before the optimizer's step,
    for any optimizer. Put plugins that clip gradients after it. Metrics: ``DiGraP_omega``, the
    mean strength, and ``DiGraP_conflict``, the share of tensors that pointed away.

    The anchors of the head are the head's weights at the start of the experience, after a
    linear probe, for either ``anchor``. In an online stream, a tensor of the head that appears
    or grows in a later part of an experience is new: its anchor is its weight at that moment.

    Args:
        mu: learning rate of the strength; the authors' grid is 0.01, 0.1, 0.5, 1, 10.
        exclude_head: True leaves the gradients of the head as they are.
        feature_module, anchor, name: see :class:`AnchorPlugin`.

    Raises:
        TypeError, ValueError: for an option of the wrong type or out of range.

    Example:
        >>> import torch
        >>> from avalanche.training import Naive
        >>> from avalanche_proxyfda import DiGraPPlugin
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> plugin = DiGraPPlugin(mu=0.1, exclude_head=True)  # gradients of the head stay
        >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[plugin], train_mb_size=64)
        >>> plugin.projection.mu, plugin.exclude_head
        (0.1, True)
    """

    def __init__(
        self,
        mu: float = 0.5,
        *,
        exclude_head: bool = False,
        feature_module: str | None = None,
        anchor: ReferenceChoice = "previous",
        name: str | None = None,
    ) -> None:
        super().__init__(feature_module=feature_module, anchor=anchor, name=name)
        self.projection = GradientProjection(mu)
        self.exclude_head = check_flag("exclude_head", exclude_head)
        self._head: dict[str, Tensor] = {}  # anchors of this experience
        self._projected: list[str] = []  # names of the tensors that the recursion knows

    def prepare(
        self, strategy: Strategy, state: Mapping[str, Any], new: bool, loading: Mapping[str, Any]
    ) -> None:
        """Take the head's anchors; reset, restore or carry on the recursion."""
        super().prepare(strategy, state, new, loading)
        if new:
            self._head, self._projected = {}, []
            self.projection.reset()
        elif state:
            self._head = {name: value.to(strategy.device) for name, value in state["head"].items()}
            self._projected = list(state["projected"])
            if state["projection"] is not None:
                self.projection.load_state_dict(state["projection"], strategy.device)
        self._carry(unwrap(strategy.model))

    def pair_again(self, model: nn.Module) -> None:
        """Take the weights of ``model`` that are trainable now; carry the recursion on."""
        super().pair_again(model)
        self._carry(model)

    def _carry(self, model: nn.Module) -> None:
        """Add the head; hand the strengths and moments of the earlier weights to these."""
        changed = set() if self.exclude_head else self._add_head(model)
        places = {name: k for k, name in enumerate(self._projected) if name not in changed}
        if self.names != self._projected or changed:
            self.projection.carry(self.weights, [places.get(name) for name in self.names])
        self._projected = list(self.names)

    def _add_head(self, model: nn.Module) -> set[str]:
        """Add the head's trainable tensors to the weights; return the names of new anchors."""
        encoder = set(encoder_names(model, self.embedding(model)))
        head = {n: p for n, p in model.named_parameters() if n not in encoder}
        known = {n: a for n, a in self._head.items() if n in head and a.shape == head[n].shape}
        self._head = {n: known.get(n, p.detach().clone()) for n, p in head.items()}
        trained = [n for n, p in head.items() if p.requires_grad]
        self.names += trained
        self.weights += [head[name] for name in trained]
        self.anchors += [self._head[name] for name in trained]
        return set(head) - set(known)

    def before_update(self, strategy: Strategy, **kwargs: Any) -> None:
        """Change the gradients."""
        if self.weights:
            terms = self.projection.step(self.weights, self.anchors)
            self._log.add(terms, share_of(strategy))

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Free the tensors of the recursion and the head's anchors at the end of the experience."""
        super().after_training_exp(strategy, **kwargs)
        if self.is_last_part(strategy):
            self._head, self._projected = {}, []
            self.projection.reset()

    def state_dict(self) -> dict[str, Any]:
        """Return the anchors, the strengths and their moments."""
        inside = self.projection.omega is not None
        here = {
            "head": dict(self._head),
            "projected": list(self._projected),
            "projection": self.projection.state_dict() if inside else None,
        }
        resumable = {name: self.pending.get(name, value) for name, value in here.items()}
        return {**super().state_dict(), **resumable}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``state``, see :meth:`ReferencePlugin.load_state_dict`."""
        super().load_state_dict(state)
        self._head, self._projected = {}, []
        self.projection.reset()
