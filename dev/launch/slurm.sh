#!/bin/bash
# A script for sbatch, with one task for each GPU. Change the numbers to those of your cluster, then run
#   sbatch dev/launch/slurm.sh -i /data/shards -e gpt2 -o /shared/runs/mine
# train_gpt2cu reads srun's environment variables, so it needs no address and no port. Slurm sends SIGUSR1 two minutes
# before the time limit. The training then saves and ends with code 3, and this script queues the job again to resume.
#SBATCH --job-name=kiln
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -u
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-8}
resume=()
[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || resume=(--resume)
# When one rank ends with code 3, others may still save, so srun must not kill them. A rank that fails ends the others
# by itself.
srun --kill-on-bad-exit=0 "${TRAIN:-./train_gpt2cu}" "$@" ${resume[@]+"${resume[@]}"}
code=$?
[ $code != 3 ] || scontrol requeue "$SLURM_JOB_ID"
exit $code
