#include "tools/train/options.h"

#include "tools/checkpoint/model_directory.h"
#include "tools/train/schedule.h"

namespace kiln {

namespace {

OptionSpec steps(const char* name, const char* short_name, const char* help, double min = 0) {
    return {.name = name, .short_name = short_name, .unit = "STEPS", .help = help, .min = min, .max = 1e12};
}

OptionSpec fraction(const char* name, const char* short_name, const char* help) {
    return {.name = name, .short_name = short_name, .unit = "FRACTION", .help = help, .min = 0, .max = 1};
}

OptionSpec number(const char* name, const char* short_name, const char* unit, const char* help, double min,
                  double max) {
    return {.name = name, .short_name = short_name, .unit = unit, .help = help, .min = min, .max = max};
}

void add_data_options(OptionSet& set, TrainOptions& o) {
    set.section("Data and model");
    set.add(o.data, {.name = "input",
                     .short_name = "i",
                     .unit = "PATH",
                     .help = "the training shards: a directory that `kiln prepare` made, a glob or a file"});
    set.add(o.val_data, {.name = "val-input",
                         .short_name = "j",
                         .unit = "PATH",
                         .help = "the validation shards",
                         .default_help = "those in the --input directory"});
    set.add(
        o.model,
        {.name = "model",
         .short_name = "e",
         .unit = "MODEL",
         .help = "the model to train: a preset, a descriptor such as llama:layers=8,dim=288,heads=8,ctx=256 "
                 "or gpt2:layers=4,dim=192,heads=6,ctx=128, or what to start from: a directory (a checkpoint, a run or "
                 "a Hugging Face model) or a model file of llm.c. Unless vocab= "
                 "is given, the vocabulary size is that of the data",
         .default_help = "none; three that fit the data and the device are shown"});
    set.add(o.tokenizer, {.name = "tokenizer",
                          .unit = "DIR",
                          .help = "the tokenizer that decodes samples and is copied into checkpoints: a directory or a "
                                  "file, also llm.c's gpt2_tokenizer.bin",
                          .default_help = "the tokenizer of the data"});
    set.add(o.force, {.name = "force", .help = "use shards and a tokenizer that do not belong together"});
    set.add(o.output, {.name = "output",
                       .short_name = "o",
                       .unit = "DIR",
                       .help = "the run directory, for logs, loss curve and checkpoints; empty: nothing is written",
                       .default_help = "runs/ and the current time"});
    set.add(
        o.resume,
        {.name = "resume",
         .short_name = "y",
         .help =
             "resume from the newest complete checkpoint in --output, or start the run that was stopped there before "
             "its first checkpoint; options that are not given keep the values of the run"});
    set.add(o.overwrite,
            {.name = "overwrite", .help = "remove the run that --output holds, and start a new one there"});
}

void add_batch_options(OptionSet& set, TrainOptions& o) {
    set.section("Batch and length");
    set.add(o.B, {.name = "batch-size",
                  .short_name = "b",
                  .unit = "SEQUENCES",
                  .help = "sequences in a micro-batch of one rank; auto: the largest number that fits the memory and "
                          "divides --total-batch-size evenly or, without that, leaves 50 steps in a pass over the data",
                  .min = 1,
                  .max = kMaxBatch,
                  .zero = "auto"});
    set.add(o.T, number("sequence-length", "t", "TOKENS",
                        "tokens in a sequence; 0: the context of the model, at most 1024", 0, 1 << 20));
    set.add(o.total_batch_tokens, number("total-batch-size", "d", "TOKENS",
                                         "tokens in a step, on all ranks together; several micro-batches are "
                                         "accumulated to reach it; 0: one micro-batch on each rank",
                                         0, 1e12));
    set.add(o.max_steps, steps("max-steps", "x", "steps in the whole run; -1: --epochs decides", -1));
    set.add(o.epochs, number("epochs", "", "N", "passes over the data, if --max-steps is -1", 1e-6, 1e6));
    set.add(o.seed,
            {.name = "seed", .help = "seed of the weights, the order of samples, dropout and generated samples"});
    set.add(o.overfit_one_batch,
            {.name = "overfit-one-batch",
             .short_name = "a",
             .help = "every step uses the first batch; a correct model then reaches a loss near 0"});
}

void add_optimizer_options(OptionSet& set, TrainOptions& o) {
    set.section("Optimizer");
    set.add(o.learning_rate, number("learning-rate", "l", "RATE", "learning rate at the peak of the schedule", 0, 100));
    set.add(o.warmup_steps, steps("warmup-steps", "u", "steps of linear warm-up"));
    set.add(o.schedule, {.name = "schedule",
                         .short_name = "k",
                         .help = "learning rate schedule after the warm-up",
                         .choices = schedule_names()});
    set.add(o.final_fraction,
            fraction("final-learning-rate-fraction", "q",
                     "the fraction of the peak that the learning rate reaches at step --max-steps, one after the "
                     "last step"));
    set.add(o.decay_fraction,
            fraction("wsd-decay-fraction", "",
                     "the fraction of the run, at its end, in which the schedule wsd decays the learning rate"));
    set.add(o.weight_decay,
            number("weight-decay", "c", "X", "decoupled weight decay, for matrices but not vectors", 0, 100));
    set.add(o.beta1, number("beta1", "", "X", "AdamW: decay of the first moment", 0, 0.99999));
    set.add(o.beta2, number("beta2", "", "X", "AdamW: decay of the second moment", 0, 0.9999999));
    set.add(o.eps, number("eps", "", "X", "AdamW: added to the denominator", 1e-30, 1));
    set.add(o.grad_clip, number("grad-clip", "", "NORM", "clip the gradient to this L2 norm; 0: do not clip", 0, 1e30));
    set.add(o.skip_loss_z,
            number("skip-loss-zscore", "sl", "Z",
                   "skip the update if the loss is more than Z standard deviations above the mean of its "
                   "last 128 values; 0: never",
                   0, 1e6));
    set.add(o.skip_norm_z,
            number("skip-norm-zscore", "sg", "Z", "the same for the norm of the gradient; 0: never", 0, 1e6));
    set.add(o.on_nonfinite, {.name = "on-nonfinite",
                             .help = "if the loss or the gradient is NaN or infinite (it is never applied): skip the "
                                     "step, stop, or roll back to the newest checkpoint and skip the batch",
                             .choices = {"skip", "stop", "rollback"}});
}

void add_precision_options(OptionSet& set, TrainOptions& o) {
    set.section("Precision and memory (the CPU computes in float32 and recomputes nothing)");
    add_dtype_option(set, o.dtype);
    set.add(o.tf32,
            {.name = "tf32",
             .short_name = "f",
             .help = "compute float32 matmuls from inputs rounded to 10 bits of mantissa, several times as fast"});
    set.add(o.master_weights, {.name = "master-weights",
                               .short_name = "w",
                               .help = "keep float32 weights in addition to bfloat16 or float16 weights; without them "
                                       "updates are rounded stochastically"});
    set.add(o.grad_dtype, {.name = "grad-dtype",
                           .help = "type of the gradients; same: the type of --dtype",
                           .choices = {"float32", "same"}});
    set.add(o.moment_dtype,
            {.name = "moment-dtype", .help = "type of AdamW's moments", .choices = {"float32", "bfloat16"}});
    set.add(o.attention,
            {.name = "attention",
             .help = "attention kernel; flash: on the tensor cores, for bfloat16 and float16; auto: flash if "
                     "it is possible",
             .choices = {"auto", "flash", "plain"}});
    set.add(o.recompute,
            number("recompute", "r", "0..3",
                   "recompute activations in the backward pass instead of storing them: 1 the activation in "
                   "the MLP, 2 also the norms, 3 whole blocks",
                   0, 3));
    set.add(o.gelu_fusion,
            number("gelu-fusion", "ge", "0..2",
                   "fuse GELU into the matmul before it: 1 in the forward pass, 2 also in the backward pass; for GPUs "
                   "of sm_90 and sm_100, since on others cuBLASLt may still launch a separate kernel for GELU; with "
                   "--recompute 1 or 2 this matmul runs again in the backward pass",
                   0, 2));
    set.add(o.lm_head_chunks,
            number("lm-head-chunks", "", "N",
                   "compute the LM head in at least N chunks of rows, so that fewer logits are stored at once; 0: "
                   "as many chunks as keep the logits within 1 GiB",
                   0, 1 << 20));
    set.add(o.cuda_graphs,
            {.name = "cuda-graphs",
             .help = "launch each micro-step on the GPU as one CUDA graph; models with dropout do not use "
                     "graphs"});
    set.add(o.deterministic_matmuls,
            {.name = "deterministic-matmuls",
             .former_names = {"deterministic-products"},
             .help = "every start gives the same bits: each matmul uses the library's first usable algorithm, not the "
                     "fastest one in a measurement, and the matmuls of the LM head do not depend on --lm-head-chunks"});
}

void add_validation_options(OptionSet& set, TrainOptions& o) {
    set.section("Validation and samples");
    set.add(o.val_every,
            steps("val-every", "v",
                  "compute the validation loss every STEPS steps, and at the start and the end; 0: never"));
    set.add(o.val_max_batches,
            number("val-max-batches", "m", "BATCHES",
                   "the maximum number of micro-batches, each of --batch-size sequences, in a validation; 0: all of "
                   "the validation data",
                   0, 1e12));
    set.add(o.eval_only, {.name = "eval-only",
                          .help = "print the loss of --model, or of the run in --output, on all of the validation "
                                  "data, unless -m says less, and stop"});
    set.add(o.sample_every, steps("sample-every", "s", "generate text every STEPS steps, and at the end; 0: never"));
    set.add(o.sample_tokens, number("sample-tokens", "g", "TOKENS", "tokens in a sample", 1, 1 << 20));
    set.add(
        o.prompt,
        {.name = "prompt",
         .unit = "TEXT",
         .help =
             "text at the start of the samples; FILE:path: the whole text of a file; empty: the start of a document"});
    set.add(o.temperature,
            number("temperature", "", "X", "sampling temperature; 0: always the most likely token", 0, 100));
    set.add(o.top_k, number("top-k", "", "N", "sample among the N most likely tokens; 0: among all", 0, 1 << 30));
    set.add(o.top_p, number("top-p", "", "FRACTION",
                            "sample among the most likely tokens that together have this probability", 1e-6, 1));
}

void add_checkpoint_options(OptionSet& set, TrainOptions& o) {
    set.section("Checkpoints");
    set.add(o.checkpoint_every,
            steps("checkpoint-every", "n", "write a checkpoint every STEPS steps, and at the end; 0: only at the end"));
    set.add(o.keep,
            number("checkpoints-keep", "nk", "N",
                   "keep the N newest checkpoints, and the one with the lowest validation loss; 0: keep all", 0, 1e9));
    set.add(o.major_every, steps("checkpoints-major-every", "nm",
                                 "never delete the checkpoints at every STEPS steps; 0: --checkpoints-keep decides"));
    set.add(
        o.async_save,
        {.name = "async-save",
         .help = "training continues while a checkpoint is written, from a copy of the weights and of the optimizer "
                 "state in this machine's memory; 0: training waits"});
}

void add_machine_options(OptionSet& set, TrainOptions& o) {
    set.section("Machine");
    set.add(o.threads, {.name = "threads", .help = "CPU threads; 0: one per core", .min = 0, .max = 4096});
    set.add(o.dry_run, {.name = "dry-run",
                        .help = "print parameters, FLOPs per token and memory by kind, and stop; needs no GPU"});
    set.add(o.gpu, {.name = "gpu",
                    .unit = "NAME",
                    .help = "with --dry-run: a GPU that need not be in this machine, for example \"RTX 4090\"",
                    .default_help = "that of this machine"});
    set.add(o.memory, {.name = "memory",
                       .unit = "SIZE",
                       .help = "with --dry-run: the free memory of the device, for example 16GiB",
                       .default_help = "what is free now"});
    set.add(o.log_every, {.name = "log-every",
                          .unit = "STEPS",
                          .help = "print a line every STEPS steps; auto: about one line a second on a terminal, else "
                                  "every step. The logs have every step",
                          .min = 1,
                          .max = 1e12,
                          .zero = "auto"});
    set.add_unavailable({.name = "hellaswag",
                         .short_name = "h",
                         .unit = "0|1",
                         .help = "HellaSwag evaluation; -h without a value is --help"},
                        {"0"});
    set.add(o.gpu_log_every,
            steps("log-gpu-every", "lg",
                  "log the clocks, power, temperature and memory of the GPU, read by NVML; 0 or -1: never", -1));

    set.section("Several processes");
    set.add(
        o.zero_stage,
        {.name = "zero-stage",
         .short_name = "z",
         .help = "what is partitioned between the GPUs (ZeRO); 0: nothing, 1: the optimizer state, 2: the gradients "
                 "too, 3: the weights too",
         .min = 0,
         .max = 3});
    set.add(o.reduce_dtype, {.name = "reduce-dtype",
                             .help = "type in which GPUs sum their gradients; same: the type of --dtype",
                             .choices = {"float32", "same"}});
    LaunchOptions& l = o.launch;
    set.add(l.gpus,
            {.name = "gpus",
             .unit = "N|all",
             .help = "start a process for each of N GPUs of this machine; not needed with torchrun, mpirun or srun, "
                     "which are recognised by their environment variables",
             .default_help = "one process"});
    set.add(l.processes, {.name = "num-processes",
                          .short_name = "pn",
                          .help = "the number of processes, if you start them one by one; each then needs -pr, and "
                                  "-ps or -pf",
                          .min = 1,
                          .max = kMaxRanks});
    set.add(l.rank, {.name = "process-rank",
                     .short_name = "pr",
                     .help = "the rank of this process, from 0",
                     .min = 0,
                     .max = kMaxRanks - 1});
    set.add(l.per_node, {.name = "devices-per-node",
                         .short_name = "pg",
                         .help = "processes on each machine, with --num-processes",
                         .min = 1,
                         .max = kMaxRanks});
    set.add(l.method,
            {.name = "init-method",
             .short_name = "pi",
             .former_names = {"nccl-init-method"},
             .help = "how the processes find rank 0; mpi: by the environment variables of the launcher, tcp: at "
                     "--server-ip, fs: by a file in --fs-path; auto: by whichever is given",
             .choices = {"auto", "mpi", "tcp", "fs"}});
    set.add(l.server, {.name = "server-ip",
                       .short_name = "ps",
                       .unit = "HOST",
                       .help = "the machine of rank 0, as HOST or HOST:PORT; without a port: 12345",
                       .default_help = "none"});
    set.add(l.shared_path, {.name = "fs-path",
                            .short_name = "pf",
                            .unit = "DIR",
                            .help = "a directory in which rank 0 writes its address; all machines share it, and no "
                                    "other launch uses it at the same time",
                            .default_help = "none; /tmp with --init-method fs"});
    set.add(
        l.launch_timeout_s,
        number("launch-timeout", "", "SECONDS",
               "end the launch if not all processes are connected by then; with --gpus the default is 25", 1, 86400));
    set.add(
        l.rank_timeout_s,
        number("rank-timeout", "", "SECONDS",
               "end the run if a process makes no progress for so long while others wait for it; 0: no limit. For what "
               "the run has done before (a step, a save), the limit is five times the longest wait so far, but at "
               "least 20 s and a fifteenth of this value",
               0, 1e6));
}

}  // namespace

void add_train_options(OptionSet& set, TrainOptions& o) {
    add_data_options(set, o);
    add_batch_options(set, o);
    add_optimizer_options(set, o);
    add_validation_options(set, o);
    add_checkpoint_options(set, o);
    add_precision_options(set, o);
    add_machine_options(set, o);
}

}  // namespace kiln
