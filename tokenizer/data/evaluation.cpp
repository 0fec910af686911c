#include "tokenizer/data/evaluation.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"

namespace kiln {
namespace {

constexpr int32_t kMagic = 20240522, kVersion = 1;
constexpr uint16_t kStart = 65535;
constexpr size_t kCompletions = 4, kMostExamples = 65535, kMostBytes = 65535;
using Header = std::array<int32_t, 256>;

}  // namespace

std::vector<EvaluationExample> read_evaluation(const std::filesystem::path& path) {
    const std::string content = read_file(path), name = path.string();
    Header header{};
    KILN_CHECK(content.size() >= sizeof header, name, ": is not evaluation data of llm.c: ", content.size(),
               " bytes are fewer than its header of ", sizeof header);
    std::memcpy(header.data(), content.data(), sizeof header);
    KILN_CHECK(header[0] == kMagic && header[1] == kVersion, name, ": is not evaluation data of llm.c: it begins with ",
               header[0], " and version ", header[1], ", not with ", kMagic, " and version ", kVersion);
    std::vector<uint16_t> words((content.size() - sizeof header) / sizeof(uint16_t));
    std::memcpy(words.data(), content.data() + sizeof header, words.size() * sizeof(uint16_t));
    std::span<const uint16_t> rest = words;
    std::vector<EvaluationExample> examples;
    const auto check = [&](bool good, const auto&... what) {
        KILN_CHECK(good, name, ": example ", examples.size(), ": ", what..., "; the file is damaged, get it again");
    };
    const auto take = [&](size_t n) {
        check(n <= rest.size(), "is cut short");
        const auto taken = rest.first(n);
        rest = rest.subspan(n);
        return taken;
    };
    const auto tokens = [&] {
        const auto taken = take(take(1)[0]);
        return std::vector<int>(taken.begin(), taken.end());
    };
    while (!rest.empty()) {
        const size_t begin = rest.size();
        const auto fields = take(5);
        check(fields[0] == kStart, "begins with ", fields[0], ", not with ", kStart);
        check(fields[3] < fields[4], "has completion ", fields[3], " as the right one of ", fields[4]);
        EvaluationExample example{.label = fields[3], .context = tokens(), .completions = {}};
        for (int i = 0; i < fields[4]; i++) example.completions.push_back(tokens());
        const size_t bytes = (begin - rest.size()) * sizeof(uint16_t);
        check(fields[1] == bytes, "says that it has ", fields[1], " bytes, but has ", bytes);
        examples.push_back(std::move(example));
    }
    KILN_CHECK(examples.size() == size_t(header[2]) && content.size() % sizeof(uint16_t) == 0, name,
               ": the header says ", header[2], " examples, the file has ", examples.size(),
               "; the file is damaged, get it again");
    return examples;
}

void write_evaluation(const std::filesystem::path& path, std::span<const EvaluationExample> examples) {
    KILN_CHECK(examples.size() <= kMostExamples, path.string(), ": cannot hold ", examples.size(),
               " examples; the most is ", kMostExamples);
    std::vector<uint16_t> words;
    size_t longest = 0;
    for (size_t index = 0; index < examples.size(); index++) {
        const EvaluationExample& example = examples[index];
        const auto check = [&](bool good, const auto&... what) {
            KILN_CHECK(good, path.string(), ": example ", index, ": ", what...);
        };
        const size_t begin = words.size();
        const auto append = [&](const std::vector<int>& tokens) {
            check(tokens.size() <= kMostBytes / sizeof(uint16_t), "has ", tokens.size(), " tokens in one text");
            words.push_back(uint16_t(tokens.size()));
            for (const int token : tokens) {
                check(token >= 0 && token < kStart, "token ", token, " does not lie in [0, ", kStart - 1, "]");
                words.push_back(uint16_t(token));
            }
        };
        check(example.completions.size() == kCompletions, "has ", example.completions.size(),
              " completions, but llm.c takes ", kCompletions);
        check(example.label >= 0 && size_t(example.label) < kCompletions, "has no completion ", example.label);
        words.insert(words.end(), {kStart, 0, uint16_t(index), uint16_t(example.label), uint16_t(kCompletions)});
        append(example.context);
        for (const std::vector<int>& completion : example.completions) append(completion);
        const size_t bytes = (words.size() - begin) * sizeof(uint16_t);
        check(bytes <= kMostBytes, "has ", bytes, " bytes; the most is ", kMostBytes);
        words[begin + 1] = uint16_t(bytes);
        longest = std::max(longest, bytes);
    }
    const Header header{kMagic, kVersion, int32_t(examples.size()), int32_t(longest)};
    AtomicFile file(path);
    file.file().write(header.data(), sizeof header);
    file.file().write(words.data(), words.size() * sizeof(uint16_t));
    file.commit();
}

}  // namespace kiln
