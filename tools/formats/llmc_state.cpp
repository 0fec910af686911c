#include "tools/formats/llmc_state.h"

#include <cstring>

#include "cpu_reference/interface/error.h"
#include "tools/checkpoint/optimizer_state.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

constexpr int32_t kMagic = 20240527, kVersion = 1;
constexpr uint64_t kFirstRandomState = 13371337;  // with which llm.c begins

const std::vector<std::string_view>& moments() {
    return optimizer_info(Optimizer::adamw).states;
}

}  // namespace

void check_llmc_state(const fs::path& path) {
    read_llmc_header(InputFile(path), kMagic, {kVersion}, "a training state");
}

LlmcStateFile::LlmcStateFile(const fs::path& path, const LlmcModelFile& model) : file_(path), model_(model) {
    const LlmcHeader header = read_llmc_header(file_, kMagic, {kVersion}, "a training state");
    const std::string name = path.string();
    const int32_t processes = header[2], rank = header[3];
    master_weights_ = header[4] != 0;
    step_ = header[10];
    KILN_CHECK(step_ >= 0, name, ": says that ", step_, " steps are done; the file is damaged, get it again");
    const uint64_t arenas = moments().size() + (master_weights_ ? 1 : 0);
    const uint64_t expected = kLlmcHeaderBytes + arenas * model.layout().elems * sizeof(float);
    const bool shuffled = header[5] != 0;  // the order of the data follows, which Kiln does not use
    KILN_CHECK(shuffled ? file_.size() >= expected : file_.size() == expected, name, ": the state of this model has ",
               expected, " bytes, the file has ", file_.size(),
               processes > 1 ? concat("; it is that of rank ", rank, " of ", processes,
                                      " processes, which may hold a part only: save it in llm.c with -z 0")
                             : "; the file is damaged, or belongs to another model");
}

void LlmcStateFile::read(const Arena& arena, size_t offset, std::span<float> out) const {
    const bool weights = arena == Arena::params;
    if (weights && !master_weights_) return model_.read(offset, out);
    const LlmcLayout& layout = model_.layout();
    const size_t index = weights ? moments().size() : state_index(Optimizer::adamw, arena.name);
    file_.read_at(kLlmcHeaderBytes + (index * layout.elems + layout.find(offset)) * sizeof(float), out.data(),
                  out.size_bytes());
}

ModelState LlmcStateFile::state() const {
    return {model_.config(),
            Optimizer::adamw,
            {0, 1, {{0, size_t(count_parameters(model_.config()))}}},
            [this](const Arena& arena, size_t offset, std::span<float> out) { read(arena, offset, out); }};
}

void write_llmc_state(const fs::path& path, const fs::path& checkpoint, const StoredModel& model, int64_t step,
                      const ConversionProgress& progress) {
    check_llmc_model(model.config);
    KILN_CHECK(step <= INT32_MAX, checkpoint.string(), ": llm.c's files cannot hold ", step, " steps");
    LlmcHeader header{kMagic, kVersion, 1};
    header[4] = 1;  // a run in bfloat16 needs the master weights, and one in float32 may ignore them
    header[10] = int32_t(step);
    for (const int word : {20, 22}) std::memcpy(&header[size_t(word)], &kFirstRandomState, sizeof kFirstRandomState);
    const LlmcLayout layout(model.config, llmc_padded_vocabulary(model.config.V));
    const uint64_t all = kLlmcHeaderBytes + (moments().size() + 1) * layout.elems * sizeof(float);
    uint64_t done = kLlmcHeaderBytes;
    AtomicFile file(path);
    file.file().write(header.data(), sizeof header);
    const auto write = [&](uint64_t arena, size_t offset, std::span<const float> values) {
        file.file().write_at(kLlmcHeaderBytes + (arena * layout.elems + layout.find(offset)) * sizeof(float),
                             values.data(), values.size_bytes());
        done += values.size_bytes();
        if (progress) progress(done, all);
    };
    read_optimizer(checkpoint, model.config, Optimizer::adamw,
                   [&](const Arena& arena, size_t offset, std::span<const float> values) {
                       write(state_index(Optimizer::adamw, arena.name), offset, values);
                   });
    std::vector<float> values;
    for (const TensorSpec& spec : param_table(model.config)) {
        values.resize(spec.elems());
        model.read(spec, values);
        write(moments().size(), spec.offset, values);
    }
    file.commit();
}

}  // namespace kiln
