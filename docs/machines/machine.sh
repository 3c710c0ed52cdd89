#!/bin/bash
# One machine's part of a training, for a scheduler to start in the project's folder: DVC on the first machine, which
# writes the outputs, the stage alone on the others.
#
# At SIGTERM the training saves a checkpoint and ends. DVC ends before it has saved, and when this script ends a
# scheduler kills what it has started. So this hands the signal on, and ends after the last process that can write to
# its output: cat reads until there is none.
set -u

export PET_NODE_RANK="${PET_NODE_RANK-${SLURM_NODEID-}}" # of Kubernetes, or of SLURM
command=(python -m stages.train)
if [ "$PET_NODE_RANK" = 0 ]; then command=(dvc repro --single-item train); fi

exec > >(trap '' TERM; exec cat) 2>&1
reader=$!
"${command[@]}" &
started=$!
trap 'kill "$started"' TERM
wait "$started"
status=$? # 143 after the signal, which ends the wait
trap '' TERM
exec >&- 2>&-
wait "$reader"
exit "$status"
