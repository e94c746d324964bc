"""Faults under training: what dies, stalls or lies, when it is noticed, and what it costs.

`make chaos [ROUNDS=4] [SEED=0]` trains `identity.tiny` on drawn faces again and again, does one
thing to each run at a moment that the seed chooses, and holds it against one that nobody disturbed:

- its final weights are bit-equal (the number of workers is the same);
- the ledger of samples (trainer/ledger.py) equals that of its plan: in the history that led to the
  final weights, every step was applied exactly once;
- MLflow has the same points as the undisturbed run, each once.

Of a search whose driver is killed the trials are compared too: settings, states and values. A pool
of synthetic faces of which an actor is killed has the same bytes.

Times are taken from outside, by polling the run's status file and the processes 20 times a second.
`detection`: from the fault until the last of the hurt processes is gone. `recovery`: from the fault
to the next optimiser step (of a pool, the next batch of faces). `repeated`: what was trained again,
in steps and in seconds. A driver that is killed, a search's too, is started again with --resume at
once, one that has lost its head, as soon as it has ended; a server that is killed, after three
seconds. The clock that jumps is Python's. A run during which the machine stood still (this script
did not come to look for five seconds) is done anew. Whole hosts and their links: tests/cluster.

    python -m benchmarks.chaos [--rounds 4] [--seed 0] [--faults NAME ...] [--work DIR] [--out FILE]

What the file holds already is not run again, so a campaign that was broken off goes on.
"""
