#!/usr/bin/env bash
# The system packages that some tests need, on Debian and Ubuntu, as root. Nothing else is needed for
# `make demo` and `make test` than Python 3.11, git and make; without these packages the tests that
# want them are skipped and say so.
#   chromium                          tests/browser looks at the MLflow page
#   openssh-server rsync iproute2     tests/cluster makes hosts of its own and starts Ray on them
#   postgresql                        MLflow's store on a cluster, and its tests
#   g++                               DeepSpeed compiles its CUDA kernels with it (tests/gpu)
set -euo pipefail

apt-get update
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    chromium openssh-server rsync iproute2 postgresql g++
