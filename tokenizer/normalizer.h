#pragma once
// Unicode normalisation through ICU, as Hugging Face's tokenizers do it.
#include <memory>
#include <string>
#include <string_view>

namespace kiln {

enum class NormalizerKind { kNone, kNfc, kNfkc };

inline constexpr const char* kNormalizerNames = "none, nfc, nfkc";

NormalizerKind parse_normalizer(const std::string& name);  // throws UsageError naming those there are
const char* normalizer_name(NormalizerKind kind);          // "none", "nfc", "nfkc"

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
    std::string_view normalize(std::string_view text, std::string& buffer) const;

private:
    struct Impl;
    NormalizerKind kind_;
    std::unique_ptr<const Impl> impl_;
};

}  // namespace kiln
