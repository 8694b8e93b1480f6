"""What one worker makes of whole batches, or each of two of its shares: run by `test_whole_batch` in their processes.

``python batch_shares.py FOLDER RANK WORKERS`` reads ``cases.pt`` in the folder and writes ``WORKERS-RANK.pt``.
"""

import contextlib
import sys
from pathlib import Path
from unittest import mock

import torch
from torch.nn.parallel import DistributedDataParallel

from timbrel import registry, whole_batch
from timbrel.config import from_json
from timbrel.teaching.teacher import teacher_of
from timbrel.training.loop import Learner

CPU = torch.device("cpu")


def make_learner(case, rank, workers):
    """Return a learner of a case's config, its model wrapped for several workers, and this worker's share."""
    task = registry.load("task", case["task"])
    config = from_json(task.config_type, case["config"], "the test")
    learner = Learner(task, config, CPU, teacher=teacher_of(task, config, case.get("head"), None))
    size = len(case["batch"]["labels"]) // workers
    share = {name: values[rank * size : (rank + 1) * size] for name, values in case["batch"].items()}
    if case.get("double"):
        learner.model.double()
        heard = share.keys() & {"audio", "features", "teacher"}
        share |= {name: share[name].astype("float64") for name in heard}
    return learner, DistributedDataParallel(learner.model) if workers > 1 else None, share


def gradient(case, rank, workers):
    """Take one step in evaluation mode; return its gradient, the terms of the objective and what was counted."""
    learner, parallel, share = make_learner(case, rank, workers)
    learner.model.eval()
    learner.model.train = lambda mode=True: learner.model
    terms = learner.train_epoch([share], parallel)
    values = {name: each.grad for name, each in learner.model.named_parameters() if each.grad is not None}
    return {"gradient": values, "terms": terms, "shares": learner.class_shares, "examples": learner.examples}


def interrupted(case, rank, workers, folder):
    """Train for three epochs, once without a break and once from a checkpoint of the first; return both."""

    def epoch(learner, parallel, share):
        terms = learner.train_epoch([share, share], parallel)
        if rank == 0:
            learner.validate(case["valid"])
        return terms["loss"]

    def weights(learner):
        return {name: values.clone() for name, values in learner.model.state_dict().items()}

    undisturbed = make_learner(case, rank, workers)
    expected = [epoch(*undisturbed) for _ in range(3)]
    first = make_learner(case, rank, workers)
    got = [epoch(*first)]
    if rank == 0:
        torch.save(first[0].state_dict(), folder / "state.pt")
    torch.distributed.barrier()
    epoch(*first)  # what happened after the checkpoint is lost
    learner, _, share = make_learner(case, rank, workers)
    learner.load_state_dict(torch.load(folder / "state.pt", weights_only=True))
    parallel = DistributedDataParallel(learner.model)
    got += [epoch(learner, parallel, share) for _ in range(2)]
    return {"expected": expected, "got": got, "weights": [weights(undisturbed[0]), weights(learner)]}


def plateau(case, rank, workers):
    """Train to the end as Train workers do, of whom only the first knows the validation loss; return what they did."""
    learner, parallel, share = make_learner(case, rank, workers)
    rates = []
    while not learner.done:
        learner.train_epoch([share], parallel)
        loss = learner.validate(case["valid"])["loss"] if rank == 0 else 0.0
        learner.follow(whole_batch.of_first(loss, CPU))
        rates.append(learner.learning_rate)
    return rates


def drawn(rank):
    """Return the random numbers that a worker begins its epochs with."""
    numbers = []
    for epoch in (0, 1, 0):
        whole_batch.seed_share(7, epoch)
        numbers.append(torch.rand(3).tolist())
    return numbers


def main(folder, rank, workers):
    torch.set_num_threads(1)
    cases = torch.load(folder / "cases.pt", weights_only=False)
    if workers > 1:
        meeting = f"file://{folder}/meeting"
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    found = {"together": {name: gradient(case, rank, workers) for name, case in cases["steps"].items()}}
    if workers > 1:
        with mock.patch.object(whole_batch, "sharing", contextlib.nullcontext):
            found["apart"] = {name: gradient(case, rank, workers) for name, case in cases["steps"].items()}
        found["interrupted"] = {
            name: interrupted(case, rank, workers, folder) for name, case in cases["random"].items()
        }
        found["plateau"] = plateau(cases["plateau"], rank, workers)
        found["drawn"] = drawn(rank)
        torch.distributed.destroy_process_group()
    torch.save(found, folder / f"{workers}-{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
