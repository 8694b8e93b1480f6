"""Attention over instances, and what it is compared with: the table of the attention paper."""

from ray import tune

from timbrel.study import Study

STUDY = Study(
    name="attention_mil",
    summary="attention, mean pooling, fully connected, recurrent and random forest on embeddings of clips (OpenMIC)",
    why=(
        "A label of a clip says nothing of when the instrument plays. The paper lets a network attend to some of ten "
        "seconds, and finds it better than networks and forests that take all of them alike, by recall above all. The "
        "paper's runs have fifteen seeds: --seeds 0 42 1346 325 1243 76 423 567 34 534 46 456 346 12 239."
    ),
    task="attention_mil",
    space={"model": tune.grid_search(["attention", "mean", "fc", "fc_t", "rnn", "random_forest"])},
    metric="valid/openmic_f1",
)
