#pragma once
// Unicode normalisation through ICU, as Hugging Face's tokenizers do it.
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kiln {

enum class NormalizerKind { kNone, kNfc, kNfkc };

inline constexpr const char* kNormalizerNames = "none, nfc, nfkc";

NormalizerKind parse_normalizer(const std::string& name);  // throws UsageError naming those there are
const char* normalizer_name(NormalizerKind kind);          // "none", "nfc", "nfkc"

// Which bytes of a text each byte of its normal form comes from.
class Alignment {
public:
    // The least range of the text whose normal form holds bytes [begin, end) of the whole's.
    std::pair<size_t, size_t> original(size_t begin, size_t end) const {
        if (begins_.empty()) return {begin, end};  // nothing changed
        if (begin == end) return {begins_[begin], begins_[begin]};
        return {begins_[begin], ends_[end - 1]};
    }

private:
    friend class Normalizer;
    std::vector<size_t> begins_, ends_;  // by byte of the normal form; begins_ has one more
};

// Safe to use from several threads at once.
class Normalizer {
public:
    explicit Normalizer(NormalizerKind kind = NormalizerKind::kNone);
    Normalizer(Normalizer&&) noexcept;
    Normalizer& operator=(Normalizer&&) noexcept;
    ~Normalizer();

    NormalizerKind kind() const { return kind_; }
    // The normal form of `text`: a view of `text` itself if nothing changes, else of `buffer`. Throws Error with the
    // offset if `text` is not UTF-8 (kNone takes any bytes).
    std::string_view normalize(std::string_view text, std::string& buffer, Alignment* alignment = nullptr) const;

private:
    struct Impl;
    NormalizerKind kind_;
    std::unique_ptr<const Impl> impl_;
};

}  // namespace kiln
