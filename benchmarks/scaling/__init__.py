r"""How far it goes: steps per second on 1, 2 and 3 workers, and what 8, 64 and 256 would cost.

`steps` (benchmarks/scaling/ranks.py) trains with gloo between processes of this machine, 16 images
for each worker and step, and tells how long collectives took, with waiting for the slower ranks
and without, and how many bytes they were given.

`saving` (benchmarks/scaling/saving.py) tells what a checkpoint takes from such a training.

`polling` (benchmarks/scaling/polling.py) has Ray Train's own code ask 1 to 256 workers that do
nothing else how they are, once a second, and tells what that takes.

`load` (benchmarks/scaling/load.py) does alone what one worker, or the coordinator, has to do where
many train: the plan and the shard of a step of 16 x W images, a checkpoint's picture and its
writing, a logged step told to MLflow, and the ledger of a search that W slots report to. W is 8, 64
and 256; nothing else of those workers exists. Figures are CPU time of one process, which a machine
that does other things too hardly changes; time that waits for a disk is not in them.

    python -m benchmarks.scaling steps|saving|load LAKE [--out benchmarks/results/scaling.json]
    python -m benchmarks.scaling polling
    python -m benchmarks.scaling saving LAKE --recipes fersnet.paper --workers 1 --threads 2 \
        --block 4 --pairs 12 --set system.identity_network=random data.global_batch_images=8

Each row, and each part that has no rows, names the commit that it was measured on.
"""
