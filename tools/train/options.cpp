#include "tools/train/options.h"

#include "tools/checkpoint/model_directory.h"

namespace kiln {

namespace {

void add_data_options(OptionSet& set, TrainOptions& o) {
    set.section("Data and model");
    set.add(o.data, {.name = "input",
                     .short_name = "i",
                     .unit = "PATH",
                     .help = "training shards: a directory that `kiln prepare` made, a glob or a file"});
    set.add(o.val_data, {.name = "val-input",
                         .short_name = "j",
                         .unit = "PATH",
                         .help = "validation shards; default: those of the --input directory"});
    set.add(o.model,
            {.name = "model",
             .short_name = "e",
             .unit = "MODEL",
             .help = "what to train: a preset, a descriptor such as llama:layers=8,dim=288,heads=8,ctx=256, or the "
                     "directory of a checkpoint, run or Hugging Face model to start from. Unless vocab= is "
                     "given, the vocabulary is the data's"});
    set.add(o.tokenizer, {.name = "tokenizer",
                          .unit = "DIR",
                          .help = "to decode samples and to stand in checkpoints; default: the data's"});
    set.add(
        o.output,
        {.name = "output",
         .short_name = "o",
         .unit = "DIR",
         .help =
             "run directory: logs, loss curve, checkpoints; default: runs/ and the time; \"\": nothing is written"});
    set.add(o.resume, {.name = "resume",
                       .short_name = "y",
                       .help = "go on from the newest whole checkpoint of --output; options that are not given are the "
                               "run's own"});
}

void add_batch_options(OptionSet& set, TrainOptions& o) {
    set.section("Batch and length");
    set.add(o.B, {.name = "batch-size",
                  .short_name = "b",
                  .unit = "ROWS",
                  .help = "rows of a micro-batch; auto: as many as fit the memory, of those that divide -d",
                  .min = 1,
                  .max = kMaxRows,
                  .zero = "auto"});
    set.add(o.T, {.name = "sequence-length",
                  .short_name = "t",
                  .unit = "TOKENS",
                  .help = "tokens of a row; 0: the model's context, at most 1024",
                  .min = 0,
                  .max = 1 << 20});
    set.add(o.total_batch_tokens, {.name = "total-batch-size",
                                   .short_name = "d",
                                   .unit = "TOKENS",
                                   .help = "tokens of a step, by accumulation; 0: one micro-batch",
                                   .min = 0,
                                   .max = 1e12});
    set.add(o.max_steps, {.name = "max-steps",
                          .short_name = "x",
                          .unit = "STEPS",
                          .help = "-1: as many as --epochs says",
                          .min = -1,
                          .max = 1e12});
    set.add(o.epochs, {.name = "epochs",
                       .unit = "N",
                       .help = "passes over the data, if --max-steps does not say",
                       .min = 0,
                       .max = 1e6});
    set.add(o.seed, {.name = "seed", .help = "of the weights, the order of samples, dropout and samples"});
    set.add(o.overfit_one_batch, {.name = "overfit-one-batch",
                                  .short_name = "a",
                                  .help = "every step sees the first batch: the loss must fall to nothing"});
}

void add_optimizer_options(OptionSet& set, TrainOptions& o) {
    set.section("Optimizer");
    set.add(o.learning_rate, {.name = "learning-rate",
                              .short_name = "l",
                              .unit = "RATE",
                              .help = "the schedule's peak",
                              .min = 0,
                              .max = 100});
    set.add(o.warmup_steps, {.name = "warmup-steps",
                             .short_name = "u",
                             .unit = "STEPS",
                             .help = "of linear warm-up",
                             .min = 0,
                             .max = 1e12});
    set.add(o.schedule, {.name = "schedule",
                         .short_name = "k",
                         .help = "after the warm-up",
                         .choices = {"constant", "linear", "cosine", "wsd"}});
    set.add(o.final_fraction, {.name = "final-learning-rate-fraction",
                               .short_name = "q",
                               .unit = "FRACTION",
                               .help = "of the peak, at the last step",
                               .min = 0,
                               .max = 1});
    set.add(o.decay_fraction, {.name = "wsd-decay-fraction",
                               .unit = "FRACTION",
                               .help = "part of the run in which wsd decays, the last",
                               .min = 0,
                               .max = 1});
    set.add(o.weight_decay, {.name = "weight-decay",
                             .short_name = "c",
                             .unit = "X",
                             .help = "decoupled, on matrices and not on vectors",
                             .min = 0,
                             .max = 100});
    set.add(o.beta1, {.name = "beta1", .unit = "X", .help = "AdamW", .min = 0, .max = 0.99999});
    set.add(o.beta2, {.name = "beta2", .unit = "X", .help = "AdamW", .min = 0, .max = 0.9999999});
    set.add(o.eps, {.name = "eps", .unit = "X", .help = "AdamW", .min = 1e-30, .max = 1});
    set.add(o.grad_clip, {.name = "grad-clip",
                          .unit = "NORM",
                          .help = "clip the gradient to this L2 norm; 0: never",
                          .min = 0,
                          .max = 1e30});
    set.add(o.skip_loss_z, {.name = "skip-loss-zscore",
                            .short_name = "sl",
                            .unit = "Z",
                            .help = "skip the update if the loss is so many deviations above its last 128; 0: never",
                            .min = 0,
                            .max = 1e6});
    set.add(o.skip_norm_z, {.name = "skip-norm-zscore",
                            .short_name = "sg",
                            .unit = "Z",
                            .help = "the same for the gradient's norm; 0: never",
                            .min = 0,
                            .max = 1e6});
    set.add(o.on_nonfinite, {.name = "on-nonfinite",
                             .help = "a loss or gradient that is NaN or infinite is never applied; then skip the step, "
                                     "stop, or roll back to the newest checkpoint and pass over the batch",
                             .choices = {"skip", "stop", "rollback"}});
}

void add_precision_options(OptionSet& set, TrainOptions& o) {
    set.section("Precision and memory; on the CPU all is float32 and kept");
    add_dtype_option(set, o.dtype);
    set.add(o.tf32, {.name = "tf32",
                     .short_name = "f",
                     .help = "in float32, products of inputs rounded to 10 bits of mantissa: several times as fast"});
    set.add(o.master_weights, {.name = "master-weights",
                               .short_name = "w",
                               .help = "keep float32 weights beside narrow ones; without, updates are rounded "
                                       "stochastically; in float32 the weights are their own masters"});
    set.add(o.grad_dtype,
            {.name = "grad-dtype", .help = "of gradients; same: that of --dtype", .choices = {"float32", "same"}});
    set.add(o.moment_dtype, {.name = "moment-dtype", .help = "of AdamW's moments", .choices = {"float32", "bfloat16"}});
    set.add(o.attention, {.name = "attention",
                          .help = "flash: on the tensor cores, for bfloat16 and float16; auto: that, where it can be",
                          .choices = {"auto", "flash", "plain"}});
    set.add(o.recompute, {.name = "recompute",
                          .short_name = "r",
                          .unit = "0..3",
                          .help = "in the backward pass, compute again instead of keeping: 1 the MLP's activation, 2 "
                                  "norms too, 3 whole blocks",
                          .min = 0,
                          .max = 3});
    set.add(o.gelu_fusion, {.name = "gelu-fusion",
                            .short_name = "ge",
                            .unit = "0..2",
                            .help = "GELU in the product before it: 1 forward, 2 backward too",
                            .min = 0,
                            .max = 2});
    set.add(o.lm_head_chunks, {.name = "lm-head-chunks",
                               .unit = "N",
                               .help = "the head's rows in so many parts, each with its own logits; 0: so that logits "
                                       "take 1 GiB at most",
                               .min = 0,
                               .max = 1 << 20});
    set.add(o.cuda_graphs,
            {.name = "cuda-graphs",
             .help = "give a GPU each micro-step in one call, where nothing drops out; 0: call by call"});
    set.add(o.deterministic_matmuls,
            {.name = "deterministic-products",
             .help = "take the library's first algorithm for each product, not the one that is timed fastest, and the "
                     "head's over the same pieces of rows for any --lm-head-chunks: the same bits on every start"});
}

void add_validation_options(OptionSet& set, TrainOptions& o) {
    set.section("Validation and samples");
    set.add(o.val_every, {.name = "val-every",
                          .short_name = "v",
                          .unit = "STEPS",
                          .help = "validation loss, and at both ends; 0: never",
                          .min = 0,
                          .max = 1e12});
    set.add(o.val_max_batches, {.name = "val-max-batches",
                                .short_name = "m",
                                .unit = "BATCHES",
                                .help = "micro-batches of a validation at most; 0: all there are",
                                .min = 0,
                                .max = 1e12});
    set.add(o.eval_only, {.name = "eval-only", .help = "the validation loss of --model, and stop"});
    set.add(o.sample_every, {.name = "sample-every",
                             .short_name = "s",
                             .unit = "STEPS",
                             .help = "text from the model, and at the end; 0: never",
                             .min = 0,
                             .max = 1e12});
    set.add(o.sample_tokens, {.name = "sample-tokens",
                              .short_name = "g",
                              .unit = "TOKENS",
                              .help = "of a sample",
                              .min = 1,
                              .max = 1 << 20});
    set.add(o.prompt, {.name = "prompt", .unit = "TEXT", .help = "what samples begin with; empty: a new document"});
    set.add(o.temperature,
            {.name = "temperature", .unit = "X", .help = "of samples; 0: always the likeliest", .min = 0, .max = 100});
    set.add(o.top_k,
            {.name = "top-k", .unit = "N", .help = "sample among the N likeliest; 0: all", .min = 0, .max = 1 << 30});
    set.add(o.top_p,
            {.name = "top-p", .unit = "P", .help = "sample among the likeliest that make up P", .min = 0, .max = 1});
}

void add_checkpoint_options(OptionSet& set, TrainOptions& o) {
    set.section("Checkpoints");
    set.add(o.checkpoint_every, {.name = "checkpoint-every",
                                 .short_name = "n",
                                 .unit = "STEPS",
                                 .help = "write one, and at the end; 0: at the end only",
                                 .min = 0,
                                 .max = 1e12});
    set.add(o.keep, {.name = "checkpoints-keep",
                     .short_name = "nk",
                     .unit = "N",
                     .help = "keep the newest N; 0: all",
                     .min = 0,
                     .max = 1e9});
    set.add(o.major_every, {.name = "checkpoints-major-every",
                            .short_name = "nm",
                            .unit = "STEPS",
                            .help = "and those of every so many steps, for good; 0: none",
                            .min = 0,
                            .max = 1e12});
}

void add_machine_options(OptionSet& set, TrainOptions& o) {
    set.section("Machine");
    set.add(o.threads, {.name = "threads", .help = "of the CPU; 0: one a core", .min = 0, .max = 4096});
    set.add(o.dry_run, {.name = "dry-run", .help = "print parameters, FLOPs a token and memory by kind, and stop"});
    set.add_unavailable({.name = "hellaswag", .short_name = "h", .unit = "0|1", .help = "HellaSwag evaluation"}, {"0"});
    set.add(o.gpu_log_every, {.name = "log-gpu-every",
                              .short_name = "lg",
                              .unit = "STEPS",
                              .help = "the GPU's clocks, power, temperature and memory, by NVML; 0 or -1: never",
                              .min = -1,
                              .max = 1e12});

    set.section("Several processes");
    set.add_unavailable({.name = "zero-stage", .short_name = "z", .unit = "0|1|2|3", .help = "sharding the optimizer"},
                        {"0"});
    set.add_unavailable(
        {.name = "num-processes", .short_name = "pn", .unit = "N", .help = "training in several processes"}, {"1"});
    set.add_unavailable(
        {.name = "process-rank", .short_name = "pr", .unit = "N", .help = "training in several processes"}, {"0"});
    const char* const kSetup[][2] = {{"devices-per-node", "pg"},
                                     {"init-method", "pi"},
                                     {"nccl-init-method", "pm"},
                                     {"server-ip", "ps"},
                                     {"fs-path", "pf"}};
    int i = 0;
    for (const auto& [name, short_name] : kSetup) {
        set.add(o.process_setup[i++],
                {.name = name, .short_name = short_name, .help = "not looked at while there is one process"});
    }
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
