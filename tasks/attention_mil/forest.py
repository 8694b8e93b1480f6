"""The data set's baseline: a random forest for each class, on the mean of a clip's embeddings.

Source: the notebook of OpenMIC-2018 (Humphrey, Durand and McFee, ISMIR 2018): 100 trees of depth 8 at most, each class
learned from the clips that were judged on it. scikit-learn grows the trees; what is kept of them are arrays, so that a
trained forest is data like any other model, and nothing is unpickled to use it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor

from tasks.attention_mil.losses import judged_cross_entropy
from tasks.attention_mil.model import BagNet
from timbrel.settings import Seed

ARRAYS = ("roots", "onward", "feature", "threshold", "value")
MORE = 1.01
"""By how many times the clips have to have become more for the forests to be grown anew."""
UNKNOWN = 0.5
"""The answer for a class that was judged in no clip."""


@dataclass(frozen=True, kw_only=True)
class ForestConfig:
    """Size of the forests."""

    trees: Annotated[int, Ge(1)] = 100
    """Trees for each class (OpenMIC's notebook: 100)."""
    depth: Annotated[int, Ge(1)] = 8
    """Decisions from a tree's root to a leaf, at most (OpenMIC's notebook: 8)."""


class Forest(BagNet):
    """A forest for each class, as arrays; before it is fitted it answers 0.5 whatever it is given.

    The nodes of all trees stand in one row, children after their parents. A leaf is its own child, so that walking on
    from it does no harm.
    """

    roots: Tensor
    """Where each tree begins, int64 ``(class, tree)``; all the same for a class that needs no decision."""
    onward: Tensor
    """The children: where to go on up to the threshold, and where above it, int64 ``(node, 2)``."""
    feature: Tensor
    """The dimension that decides, int64 ``(node,)``."""
    threshold: Tensor
    """float64 ``(node,)``: in float32 it may fall to another side than in scikit-learn."""
    value: Tensor
    """The share of training clips with the class that came to the node, float64 ``(node,)``."""
    clips: Tensor
    """How many clips the forests were grown from, int64."""

    def __init__(self, dimension: int, classes: int) -> None:
        super().__init__(dimension)
        self.classes = classes
        for name, array in _joined([_leaf(UNKNOWN)], np.zeros((classes, 1), dtype=np.int64)).items():
            self.register_buffer(name, torch.from_numpy(array))
        self.register_buffer("clips", torch.tensor(0))
        self._seen: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        means = x.double().mean(dim=1).float().double()  # scikit-learn compares what it rounded to float32
        node = self.roots.expand(len(x), *self.roots.shape)
        while True:
            feature = self.feature[node].flatten(1)
            above = means.gather(1, feature).view(node.shape) > self.threshold[node]
            after = torch.where(above, self.onward[:, 1][node], self.onward[:, 0][node])
            if torch.equal(after, node):
                break
            node = after
        probabilities = self.value[node].mean(dim=2).clamp(0, 1).float()
        return probabilities, probabilities.new_zeros(*probabilities.shape, 0)

    def fit_stream(
        self, batches: Iterable[Mapping[str, np.ndarray]], config: ForestConfig, seed: Seed = 0
    ) -> dict[str, float]:
        """Grow the forests from the clips of a stream and of those before it, and return figures by name: ``loss``,
        the cross-entropy on these clips, and ``clips``, from how many the forests were grown.

        A stream draws clips at random, some often and some not yet; a forest should count each once. Examples are the
        same clip if their means and labels are the same to the bit, whichever columns come along; two windows of a
        song are two. A stream that brings hardly any new clip leaves the forests as they are.
        """
        for batch in batches:
            means = batch["features"].mean(axis=1, dtype=np.float64).astype(np.float32)
            for mean, label in zip(means, np.asarray(batch["labels"], dtype=np.float32), strict=True):
                self._seen.setdefault(mean.tobytes() + label.tobytes(), (mean.copy(), label.copy()))
        means, labels = (np.stack(each) for each in zip(*self._seen.values(), strict=True))
        if len(means) > MORE * int(self.clips):
            self.fit(means, labels, config, seed)
        with torch.inference_mode():
            bags = torch.from_numpy(means)[:, None].to(self.value.device).split(256)
            said = torch.cat([self.attend(bag)[0].cpu() for bag in bags])
        return {"loss": float(judged_cross_entropy(said, torch.from_numpy(labels))), "clips": float(self.clips)}

    def fit(self, means: np.ndarray, labels: np.ndarray, config: ForestConfig, seed: Seed = 0) -> None:
        """Grow the forests.

        Args:
            means: of the clips' embeddings, ``(clip, dimension)``.
            labels: 1 present, 0 absent, NaN where nobody judged, ``(clip, class)``.
            config: their size.
            seed: of the draws of clips and dimensions.

        A class whose judged clips all have it, or all lack it, needs no tree; one that was never judged has 0.5.
        """
        trees: list[dict[str, np.ndarray]] = []
        roots = np.empty((self.classes, config.trees), dtype=np.int64)
        nodes = 0
        for label in range(self.classes):
            judged = ~np.isnan(labels[:, label])
            present = labels[judged, label] == 1
            if present.any() and not present.all():
                grown = RandomForestClassifier(config.trees, max_depth=config.depth, random_state=seed % 2**32)
                grown.fit(means[judged].astype(np.float32), present)
                added = [_tree(estimator.tree_) for estimator in grown.estimators_]
            else:
                added = [_leaf(float(present[0]) if len(present) else UNKNOWN)]
            for tree, each in enumerate(added):
                roots[label, tree:] = nodes
                nodes += len(each["value"])
            trees += added
        for name, array in _joined(trees, roots).items():
            setattr(self, name, torch.from_numpy(array).to(self.value.device))
        self.clips.fill_(len(means))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Take over arrays of any number of trees and nodes, where they are trees at all."""
        stored = {name: state_dict.get(prefix + name) for name in ARRAYS}
        if all(isinstance(array, Tensor) for array in stored.values()):
            if fault := self._fault(**stored):  # type: ignore[arg-type]  # none is None, as was just seen
                others[-1].append(f"{prefix or 'the state'} holds no forest of this task: {fault}")
                return
            for name, array in stored.items():
                own = getattr(self, name)
                setattr(self, name, torch.empty(array.shape, dtype=own.dtype, device=own.device))  # type: ignore[union-attr]  # a buffer
        super()._load_from_state_dict(state_dict, prefix, *others)

    def _fault(self, roots: Tensor, onward: Tensor, feature: Tensor, threshold: Tensor, value: Tensor) -> str:
        """Return what keeps arrays from being a forest, in which every walk ends at a leaf; nothing if they are one."""
        nodes = value.numel()
        if roots.dim() != 2 or len(roots) != self.classes or not roots.numel():
            return f"expected roots ({self.classes}, tree), got {tuple(roots.shape)}"
        shapes = [tuple(each.shape) for each in (onward, feature, threshold, value)]
        if shapes != [(nodes, 2), (nodes,), (nodes,), (nodes,)]:
            return f"expected onward (node, 2), and feature, threshold and value (node,), got {shapes}"
        if any(array.dtype != torch.int64 for array in (roots, onward, feature)):
            return "expected int64 as roots, onward and feature"
        own = torch.arange(nodes, device=onward.device)[:, None]
        leaf = (onward == own).all(dim=1, keepdim=True)
        leads = (leaf | (onward > own)).all() and (onward < nodes).all()
        if not leads or roots.min() < 0 or roots.max() >= nodes:
            return "a node leads nowhere, or back to one before it"
        if feature.min() < 0 or feature.max() >= self.dimension:
            return f"a node asks for dimension {int(feature.max())} of embeddings of {self.dimension}"
        if not bool(((value >= 0) & (value <= 1)).all()):
            return "a share of clips lies outside of 0 to 1"
        return ""


def _tree(grown: Any) -> dict[str, np.ndarray]:
    """Return a tree of scikit-learn's as arrays, its nodes counted from 0."""
    leaf = grown.children_left < 0
    children = np.stack([grown.children_left, grown.children_right], axis=1).astype(np.int64)
    children[leaf] = np.flatnonzero(leaf)[:, None]
    shares = grown.value[:, 0, :]
    return {
        "onward": children,
        "feature": np.where(leaf, 0, grown.feature).astype(np.int64),
        "threshold": np.where(leaf, 0.0, grown.threshold),
        "value": shares[:, 1] / shares.sum(axis=1),
    }


def _leaf(value: float) -> dict[str, np.ndarray]:
    """Return a tree that is one leaf."""
    return {
        "onward": np.zeros((1, 2), dtype=np.int64),
        "feature": np.zeros(1, dtype=np.int64),
        "threshold": np.zeros(1),
        "value": np.array([value]),
    }


def _joined(trees: list[dict[str, np.ndarray]], roots: np.ndarray) -> dict[str, np.ndarray]:
    """Return all trees in one row of nodes."""
    begins = np.cumsum([0, *(len(tree["value"]) for tree in trees[:-1])])
    moved = [{**tree, "onward": tree["onward"] + begin} for tree, begin in zip(trees, begins, strict=True)]
    return {"roots": roots, **{name: np.concatenate([tree[name] for tree in moved]) for name in moved[0]}}
