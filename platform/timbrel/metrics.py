"""Multi-label recognition: how well per-class probabilities agree with what sounds.

A model gives each example one probability a class; several classes may be present at once. Everything here
is a function of two arrays, and ``evaluate`` gathers it into one flat dictionary of named numbers.

Conventions
-----------
Arrays have the shape ``(example, class)``. Targets are 0 or 1 (1 = present), or NaN where nobody judged the class
in the example. Scores are probabilities in [0, 1], no logits. Thresholds have the shape ``(class,)``; a class is
predicted where its score is *at or above* its threshold.

*What nobody judged counts nowhere*: a class's figures are those of its judged examples alone, as if it had no others,
whatever the model says of these.

*Undefined is NaN, never 0 or 1.* A class without a positive or without a negative example in the split has
no ROC-AUC and no PR-AUC: any ranking of its examples is as good as any other. A class without a positive
example has no recall and no F1; one that is never predicted has no precision. Accuracy is defined wherever
anything was judged.

*Macro* is the mean over the classes for which the metric is defined, each with the same weight. *Micro*
pools all judged decisions ``example x class`` first, so frequent classes weigh more.

Metrics
-------
* ROC-AUC: the probability that a positive example gets a higher score than a negative one (ties count half).
* PR-AUC: average precision, the step-wise area under the precision-recall curve, without interpolation. Its macro mean
  is what others call mAP.
* F1, precision, recall and accuracy of the decisions at given thresholds.
* Both-sided F1, precision and recall: of "present" and of "absent", each as if it were the class, and their mean.
* Binary cross-entropy (nats), the mean over the judged decisions.

References
----------
J. Davis and M. Goadrich, "The relationship between precision-recall and ROC curves", ICML 2006.
Z. C. Lipton, C. Elkan and B. Narayanaswamy, "Optimal thresholding of classifiers to maximize F1 measure",
ECML 2014.
"""

import re
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

ThresholdRule = Literal["per_class", "global", "fixed"]

FIXED_THRESHOLD = 0.35
"""The threshold of the paper that the task ``multi_instrument`` follows."""
MIN_LOG = -100.0
"""Floor of the logarithms in the cross-entropy (nats), as in ``torch.nn.BCELoss``."""


def validate(targets: np.ndarray, scores: np.ndarray) -> None:
    """Raise ``ValueError`` unless both arrays are ``(example, class)``: targets 0, 1 or NaN, and probabilities."""
    if np.ndim(targets) != 2 or np.shape(targets) != np.shape(scores) or 0 in np.shape(targets):
        raise ValueError(
            "expected targets and scores of one shape (example, class) with at least one of each, "
            f"got {np.shape(targets)} and {np.shape(scores)}"
        )
    possible = np.isin(targets, (0, 1))
    if not possible.all():
        possible |= np.isnan(targets)
    if not possible.all():
        raise ValueError(f"expected targets of 0 and 1, or NaN, got {_first(targets, ~possible)}")
    probable = (scores >= 0) & (scores <= 1)  # False for NaN too
    if not probable.all():
        raise ValueError(f"expected finite scores in [0, 1], got {_first(scores, ~probable)}")


def is_judged(targets: np.ndarray) -> np.ndarray:
    """Return where somebody judged, bool of the targets' shape: all that is not NaN."""
    return ~np.isnan(targets)


def roc_auc(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the area under each class's ROC curve, ``(class,)``; NaN without a positive or a negative."""
    # Here, because every process of a run imports this module, few of them judge, and scikit-learn takes a second.
    from sklearn.metrics import roc_auc_score

    validate(targets, scores)
    return _where_both(roc_auc_score, targets, scores)


def pr_auc(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the average precision of each class, ``(class,)``; NaN without a positive or a negative.

    Without a negative it would be 1 whatever the scores, so that it is left out like the ROC-AUC, and the
    macro means of both are over the same classes.
    """
    from sklearn.metrics import average_precision_score

    validate(targets, scores)
    return _where_both(average_precision_score, targets, scores)


def decide(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return which classes are predicted, bool of shape ``(example, class)``, at thresholds ``(class,)``."""
    if np.shape(thresholds) != np.shape(scores)[1:]:
        raise ValueError(f"expected one threshold a class {np.shape(scores)[1:]}, got {np.shape(thresholds)}")
    return scores >= thresholds


def precision(targets: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """Return the share of each class's predictions that are right, ``(class,)``; NaN where none was made."""
    hits, _, predicted = _counts(targets, decisions)
    return _ratio(hits, predicted)


def recall(targets: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """Return the share of each class's positives that are found, ``(class,)``; NaN without a positive."""
    hits, positives, _ = _counts(targets, decisions)
    return _ratio(hits, positives)


def f1(targets: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """Return the harmonic mean of precision and recall of each class, ``(class,)``; NaN without a positive.

    A class that is present but never predicted has 0.
    """
    hits, positives, predicted = _counts(targets, decisions)
    return _ratio(2 * hits, np.where(positives > 0, positives + predicted, 0))


def accuracy(targets: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """Return the share of right decisions of each class, ``(class,)``; NaN where none was judged.

    It flatters a rare class: one present in 5 % of the examples reaches 0.95 by never being predicted.
    """
    validate(targets, decisions)
    return _ratio(np.sum(targets == decisions, axis=0), is_judged(targets).sum(axis=0))


def binary_cross_entropy(targets: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean of ``-(y ln p + (1 - y) ln(1 - p))``, in nats, over all judged decisions; NaN without one."""
    each = cross_entropies(targets, scores)
    judged = is_judged(each)
    if not judged.all():
        each = each[judged]
    return float(np.mean(each)) if each.size else float("nan")


def cross_entropies(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return ``-(y ln p + (1 - y) ln(1 - p))`` of each decision, in nats, ``(example, class)``; NaN if not judged."""
    validate(targets, scores)
    likelihood = np.where(targets == 1, scores, 1 - np.asarray(scores, dtype=np.float64))
    losses = -np.log(np.maximum(likelihood, np.exp(MIN_LOG)))
    losses[~is_judged(targets)] = np.nan
    return losses


def missed_given_false_alarm(targets: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """Return what is missed where something else is heard in its place, ``(class, class)``.

    Row ``j``, column ``i``: of the examples with a false alarm of class ``j`` (predicted, but absent) that were
    judged on class ``i``, the share in which ``i`` is missed (present, but not predicted). It is NaN where there is
    no such example, a whole row where ``j`` has no false alarm; the diagonal is 0, as a class is either absent or
    present. It does for several labels what a confusion matrix does for one, but shows no cause: where ``i`` is
    often missed, it is so in every row.

    S. Gururani, C. Summers and A. Lerch, "Instrument activity detection in polyphonic music using deep neural
    networks", ISMIR 2018.
    """
    validate(targets, decisions)
    predicted = decisions == 1
    false_alarms = (predicted & (targets == 0)).astype(np.float64)
    return _ratio(false_alarms.T @ ((targets == 1) & ~predicted), false_alarms.T @ is_judged(targets))


def both_sides_f1(labels: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return the mean of the F1 of "present" and the F1 of "absent" of each class, ``(class,)``, at one threshold.

    NaN for a class without a judged positive or without a judged negative: one of the two has nothing to find. Its
    mean over the classes is the F1 of OpenMIC's baseline and of those who compare with it, at threshold 0.5 or 0.4.

    E. Humphrey, S. Durand and B. McFee, "OpenMIC-2018: an open dataset for multiple instrument recognition", ISMIR
    2018.
    """
    return _both_sides(f1, labels, scores, threshold)


def both_sides_precision(labels: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return the mean of the precisions of "present" and "absent" of each class, ``(class,)``; NaN as for the F1.

    A side that is never predicted has precision 0 here, as in scikit-learn's report of both.
    """
    return _both_sides(precision, labels, scores, threshold)


def both_sides_recall(labels: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return the mean of the recalls of "present" and "absent" of each class, ``(class,)``; NaN as for the F1.

    It is also called the balanced accuracy: 0.5 for always giving the same answer.
    """
    return _both_sides(recall, labels, scores, threshold)


def macro(per_class: np.ndarray) -> float:
    """Return the mean over the defined classes, NaN where none is."""
    defined = per_class[~np.isnan(per_class)]
    return float(defined.mean()) if defined.size else float("nan")


def choose_thresholds(
    targets: np.ndarray, scores: np.ndarray, rule: ThresholdRule, fixed: float = FIXED_THRESHOLD
) -> np.ndarray:
    """Return thresholds ``(class,)`` from the targets and scores of the *validation* split.

    * ``per_class``: where the class's F1 is highest. A class without a positive example takes the global
      threshold.
    * ``global``: one for all classes, where the micro-F1 is highest. Micro, because what is shared should
      answer to all decisions alike; under macro-F1 the few examples of the rarest classes would set it.
    * ``fixed``: the given value for all classes. The other rules fall back on it if no class at all has a
      positive example.

    A threshold lies midway between two neighbouring scores. Of thresholds with the same F1 the one nearest
    0.5 is taken. What nobody judged has no say. On a handful of positives a threshold of one's own is mostly
    noise: compare with ``global`` on the test split.
    """
    validate(targets, scores)
    classes = targets.shape[1]
    if rule == "fixed":
        return np.full(classes, fixed)
    shared = _best_threshold(targets.ravel(), scores.ravel(), otherwise=fixed)
    if rule == "global":
        return np.full(classes, shared)
    if rule == "per_class":
        return np.array([_best_threshold(targets[:, i], scores[:, i], shared) for i in range(classes)])
    raise ValueError(f"expected the rule per_class, global or fixed, got {rule!r}")


def evaluate(
    targets: np.ndarray, scores: np.ndarray, classes: Sequence[str], thresholds: np.ndarray
) -> dict[str, float]:
    """Return every metric by name: ``roc_auc_macro``, ``f1_micro``, and per class ``f1/electric guitar``.

    Undefined metrics are in the dictionary as NaN, so its keys depend on ``classes``; who logs it
    leaves the NaN out and says which. ``support/<class>`` is the number of positive examples. Where not everything was
    judged, ``judged/<class>`` is the number of examples that were. The macro precision is over the classes that were
    predicted at all, so read it beside the macro recall.
    """
    validate(targets, scores)
    labels = [metric_name(name) for name in classes]
    if len(labels) != targets.shape[1] or len(set(labels)) != len(labels):
        raise ValueError(f"expected {targets.shape[1]} distinct class names, got {list(classes)}")
    decisions = decide(scores, thresholds)

    result = {"binary_cross_entropy": binary_cross_entropy(targets, scores)}
    per_class: dict[str, np.ndarray] = {}
    for metric, predictions in (
        (roc_auc, scores),
        (pr_auc, scores),
        (f1, decisions),
        (precision, decisions),
        (recall, decisions),
        (accuracy, decisions),
    ):
        name = metric.__name__
        per_class[name] = metric(targets, predictions)
        result[f"{name}_macro"] = macro(per_class[name])
        result[f"{name}_micro"] = float(metric(_pool(targets), _pool(predictions))[0])
    per_class["support"] = np.sum(targets == 1, axis=0)
    judged = is_judged(targets)
    if not judged.all():
        per_class["judged"] = judged.sum(axis=0)
    for name, values in per_class.items():
        result |= {f"{name}/{label}": float(value) for label, value in zip(labels, values, strict=True)}
    return result


def metric_name(text: str) -> str:
    """Return ``text`` fit for a part of a metric's name in MLflow: ``_`` for ``/`` and what it refuses."""
    return re.sub(r"[^\w.\- ]", "_", text)


def _pool(array: np.ndarray) -> np.ndarray:
    """Return all decisions as those of a single class, ``(example x class, 1)``."""
    return array.reshape(-1, 1)


def _where_both(area: Callable[..., float], targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return ``area(targets, scores)`` of each class that has positives and negatives, NaN for the others."""
    areas = np.full(targets.shape[1], np.nan)
    for i in np.flatnonzero((targets == 1).any(axis=0) & (targets == 0).any(axis=0)):
        areas[i] = area(*_judged_alone(targets[:, i], scores[:, i]))
    return areas


def _both_sides(
    metric: Callable[[np.ndarray, np.ndarray], np.ndarray], labels: np.ndarray, scores: np.ndarray, threshold: float
) -> np.ndarray:
    """Return the mean of a metric of "present" and of "absent", ``(class,)``; NaN where either is never the case."""
    validate(labels, scores)
    decisions = scores >= np.float64(threshold)
    sides = [np.nan_to_num(metric(*side)) for side in ((labels, decisions), (1 - labels, ~decisions))]
    return np.where((labels == 1).any(axis=0) & (labels == 0).any(axis=0), np.mean(sides, axis=0), np.nan)


def _judged_alone(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both for the judged examples of one class; all arrays ``(example,)``."""
    judged = is_judged(targets)
    return (targets, scores) if judged.all() else (targets[judged], scores[judged])


def _counts(targets: np.ndarray, decisions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the numbers of hits, of positives and of predictions of each class, ``(class,)`` each."""
    validate(targets, decisions)
    present, predicted = targets == 1, (decisions == 1) & is_judged(targets)
    return (present & predicted).sum(axis=0), present.sum(axis=0), predicted.sum(axis=0)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


def _best_threshold(targets: np.ndarray, scores: np.ndarray, otherwise: float) -> float:
    """Return the threshold of highest F1 for one class, ``otherwise`` if it has no positive.

    Both arrays have the shape ``(example,)``.
    """
    targets, scores = _judged_alone(targets, scores)
    positives = np.sum(targets)
    if positives == 0:
        return otherwise
    order = np.argsort(-scores, kind="stable")
    ranked = np.asarray(scores, dtype=np.float64)[order]
    hits = np.cumsum(targets[order], dtype=np.int64)
    below = np.append(ranked[1:], 0.0)  # the next score down; under the lowest one 0
    cuts = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))  # equal scores stay together
    f1_at_cuts = 2 * hits[cuts] / (cuts + 1 + positives)
    midpoints = (ranked[cuts] + below[cuts]) / 2
    # Between adjacent floats there is no midpoint; rounded down to the lower one it would let that in too.
    midpoints = np.where(midpoints > below[cuts], midpoints, ranked[cuts])
    best = midpoints[f1_at_cuts == f1_at_cuts.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])


def _first(array: np.ndarray, wrong: np.ndarray) -> str:
    """Return the first wrong entry and where it is, for an error message."""
    example, label = np.argwhere(wrong)[0]
    return f"{np.asarray(array)[example, label]} at example {example}, class {label}"
