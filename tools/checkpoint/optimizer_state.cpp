#include "tools/checkpoint/optimizer_state.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/tensors.h"
#include "cpu_reference/interface/text.h"
#include "tools/formats/safetensors.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

constexpr size_t kChunkElems = size_t(1) << 20;
constexpr int kMostParts = 99999;

// Calls visit(name, arena, spec) for each tensor of the optimizer's state, in the order of a file.
template <class Visit>
void for_each_state_tensor(const ModelConfig& config, Optimizer optimizer, Visit visit) {
    const std::vector<TensorSpec> table = param_table(config);
    for (const std::string_view state : optimizer_info(optimizer).states) {
        for (const TensorSpec& spec : table) visit(concat(state, ".", spec.name), Arena{state}, spec);
    }
}

// Calls visit(chunk, first) with a buffer for each chunk of [begin, end).
template <class Visit>
void for_each_chunk(size_t begin, size_t end, Visit visit) {
    std::vector<float> buffer;
    for (size_t done = begin; done < end; done += buffer.size()) {
        buffer.resize(std::min(kChunkElems, end - done));
        visit(buffer, done);
    }
}

// The least value that a state can have.
float least(std::string_view state) {
    return std::ranges::count(optimizer_info(Optimizer::adamw).squares, state) > 0 ? 0 : -FLT_MAX;
}

// Elements of a tensor that a file has.
struct Piece {
    const SafetensorsFile* file;
    const StoredTensor* stored;
    uint64_t begin, end;
};

// The tensor and the stretch in a name such as "moment1.wte[1024:2048]". Without a stretch, the tensor as a whole.
std::pair<std::string, Piece> parse_piece(const SafetensorsFile& file, const StoredTensor& stored) {
    const std::string& name = stored.name;
    const size_t bracket = name.find('[');
    Piece piece{&file, &stored, 0, stored.elems()};
    if (bracket == name.npos) return {name, piece};
    const char* const last = name.data() + name.size();
    const auto [colon, error] = std::from_chars(&name[bracket + 1], last, piece.begin);
    const bool begins = error == std::errc() && colon < last && *colon == ':';
    const auto end = std::from_chars(begins ? colon + 1 : last, last, piece.end);
    KILN_CHECK(begins && end.ec == std::errc() && std::string_view(end.ptr, last) == "]" && piece.begin < piece.end &&
                   stored.shape == std::vector<uint64_t>({piece.end - piece.begin}),
               file.path().string(), ": tensor '", name, "' does not have the elements that its name says");
    return {name.substr(0, bracket), piece};
}

}  // namespace

std::string optimizer_file(int part, int parts) {
    return parts == 1 ? "optimizer.safetensors" : formatted("optimizer-%05d-of-%05d.safetensors", part + 1, parts);
}

FileDigest write_optimizer(const fs::path& directory, const ModelState& model) {
    const auto [index, parts, stretches] = model.part;
    std::vector<SafetensorsWriter::Declared> declared;
    std::vector<std::pair<Arena, ArenaStretch>> order;
    for_each_state_tensor(
        model.config, model.optimizer, [&](const std::string& name, const Arena& arena, const TensorSpec& spec) {
            for (const ArenaStretch& own : stretches) {
                const size_t begin = std::max(own.offset, spec.offset);
                const size_t end = std::min(own.offset + own.elems, spec.offset + spec.elems());
                if (begin >= end) continue;
                order.push_back({arena, {begin, end - begin}});
                if (parts == 1) {
                    declared.push_back({name, {spec.shape[0], spec.shape[1]}, least(arena.name)});
                } else {
                    const std::string stretch = concat("[", begin - spec.offset, ":", end - spec.offset, "]");
                    declared.push_back({name + stretch, {end - begin}, least(arena.name)});
                }
            }
        });
    SafetensorsWriter writer(directory / optimizer_file(index, parts), declared);
    for (const auto& [arena, at] : order) {
        for_each_chunk(at.offset, at.offset + at.elems, [&](std::vector<float>& chunk, size_t first) {
            model.read(arena, first, chunk);
            writer.append(chunk);
        });
    }
    return writer.finish();
}

std::vector<SafetensorsFile> open_optimizer(const fs::path& checkpoint) {
    std::vector<SafetensorsFile> files;
    const auto open = [&](int part, int parts) { files.emplace_back(checkpoint / optimizer_file(part, parts)); };
    if (fs::exists(checkpoint / optimizer_file(0, 1))) {
        open(0, 1);
        return files;
    }
    int parts = 0;
    for (const auto& entry : fs::directory_iterator(checkpoint)) {
        const std::string name = entry.path().filename().string();
        const std::string prefix = "optimizer-00001-of-";
        if (!name.starts_with(prefix)) continue;
        std::from_chars(name.data() + prefix.size(), name.data() + name.size(), parts);
        KILN_CHECK(parts > 1 && parts <= kMostParts && name == optimizer_file(0, parts), entry.path().string(),
                   ": is not named as a part of an optimizer state");
    }
    KILN_CHECK(parts > 0, checkpoint.string(),
               ": has no optimizer.safetensors and no optimizer-00001-of-N.safetensors, so training cannot resume "
               "from it; start from its weights instead");
    for (int part = 0; part < parts; part++) open(part, parts);
    return files;
}

void read_optimizer(const fs::path& checkpoint, Engine& engine) {
    read_optimizer(
        checkpoint, engine.config(), engine.optimizer(),
        [&](const Arena& arena, size_t offset, std::span<const float> values) { engine.write(arena, offset, values); });
}

void read_optimizer(
    const fs::path& checkpoint, const ModelConfig& config, Optimizer optimizer,
    const std::function<void(const Arena& arena, size_t offset, std::span<const float> values)>& write) {
    const std::vector<SafetensorsFile> files = open_optimizer(checkpoint);
    std::map<std::string, std::vector<Piece>> pieces;
    size_t unread = 0;
    for (const SafetensorsFile& file : files) {
        for (const StoredTensor& stored : file.tensors()) {
            auto [name, piece] = parse_piece(file, stored);
            pieces[name].push_back(piece);
            unread++;
        }
    }
    const std::string where = files.size() == 1 ? files[0].path().string() : checkpoint.string();
    for_each_state_tensor(config, optimizer, [&](const std::string& name, const Arena& arena, const TensorSpec& spec) {
        const auto found = pieces.find(name);
        KILN_CHECK(found != pieces.end(), where, ": lacks '", name, "'");
        std::ranges::sort(found->second, {}, &Piece::begin);
        uint64_t read = 0;
        for (const Piece& piece : found->second) {
            const std::vector<uint64_t> whole = {spec.shape[0], spec.shape[1]};
            KILN_CHECK(files.size() > 1 || piece.stored->shape == whole, where, ": tensor '", name, "' has shape ",
                       shape_text(piece.stored->shape), "; the model asks for ", shape_text(whole));
            KILN_CHECK(
                piece.begin == read && piece.end <= spec.elems(), where, ": of '", name, "', which has ", spec.elems(),
                " elements, those from ", std::min(piece.begin, read), " on ",
                piece.begin < read || piece.end > spec.elems() ? "are there twice or are too many" : "are missing");
            for_each_chunk(piece.begin, piece.end, [&](std::vector<float>& chunk, size_t first) {
                piece.file->read_finite(*piece.stored, first - piece.begin, chunk, least(arena.name));
                write(arena, spec.offset + first, chunk);
            });
            read = piece.end;
            unread--;
        }
        KILN_CHECK(read == spec.elems(), where, ": of '", name, "', which has ", spec.elems(), " elements, those from ",
                   read, " on are missing");
    });
    KILN_CHECK(unread == 0, where, ": holds ", unread, " tensors that the optimizer state of this model does not have");
}

void verify_optimizer(const fs::path& checkpoint) {
    for (const SafetensorsFile& file : open_optimizer(checkpoint)) {
        for (const StoredTensor& tensor : file.tensors()) {
            file.verify_finite(tensor, least(std::string_view(tensor.name).substr(0, tensor.name.find('.'))));
        }
    }
}

}  // namespace kiln
