"""Faults under training: what dies, stalls or lies, when it is noticed, and what it costs.

`make chaos [ROUNDS=5] [SEED=0]` trains `identity.tiny` on drawn faces again and again, does one
thing to each run at a moment that the seed chooses, and holds it against one that nobody disturbed:

- its final weights are bit-equal (the number of workers is the same);
- the ledger of samples (trainer/ledger.py) equals that of its plan: in the history that led to the
  final weights, every step was applied exactly once;
- MLflow has the same points as the undisturbed run, each once.

Of a search whose driver is killed the trials are compared too: settings, states and values.

Times are taken from outside, by polling the run's status file and the processes 20 times a second.
`detection`: from the fault until the last of the hurt processes is gone. `recovery`: from the fault
to the next optimiser step. `repeated`: what was trained again, in steps and in seconds. A driver
that is killed, a search's too, is started again with --resume at once; a server that is killed,
after three seconds. The clock that jumps is Python's. A run during which the machine stood still
(this script did not come to look for five seconds) is done anew. Whole hosts: tests/cluster.

    python -m benchmarks.chaos [--rounds 5] [--seed 0] [--faults NAME ...] [--work DIR] [--out FILE]

What the file holds already is not run again, so a campaign that was broken off goes on.
"""
