#pragma once
// Unicode normalization with ICU, equal to that of Hugging Face's tokenizers.
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kiln {

enum class NormalizerKind { kNone, kNfc, kNfkc };

inline constexpr const char* kNormalizerNames = "none, nfc, nfkc";

NormalizerKind parse_normalizer(const std::string& name);  // throws UsageError that lists the names
const char* normalizer_name(NormalizerKind kind);          // "none", "nfc", "nfkc"

// For each byte of a normal form, the bytes of the text that it comes from.
class Alignment {
public:
    // The smallest range of the text with bytes [begin, end) in its normal form.
    std::pair<size_t, size_t> original(size_t begin, size_t end) const {
        if (begins_.empty()) return {begin, end};  // nothing changed
        if (begin == end) return {begins_[begin], begins_[begin]};
        return {begins_[begin], ends_[end - 1]};
    }

private:
    friend class Normalizer;
    std::vector<size_t> begins_, ends_;  // by byte of the normal form; begins_ also has the end
};

// Threads may share it.
class Normalizer {
public:
    explicit Normalizer(NormalizerKind kind = NormalizerKind::kNone);
    Normalizer(Normalizer&&) noexcept;
    Normalizer& operator=(Normalizer&&) noexcept;
    ~Normalizer();

    // Returns the normal form of `text`: a view of `text` if nothing changes, else of `buffer`. kNone accepts any
    // bytes; the others throw Error with the offset of invalid UTF-8.
    std::string_view normalize(std::string_view text, std::string& buffer, Alignment* alignment = nullptr) const;
    // Whether the two characters beside byte `at` (0 < at < text.size()) stay as they are, and the normal form of any
    // text with them is that of its two parts.
    bool may_cut(std::string_view text, size_t at) const;

private:
    struct Impl;
    NormalizerKind kind_;
    std::unique_ptr<const Impl> impl_;
};

}  // namespace kiln
