#include "tokenizer/unicode/normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/edits.h>
#include <unicode/normalizer2.h>
#include <unicode/uniset.h>

#include <algorithm>
#include <climits>

#include "cpu_reference/interface/error.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {
namespace {

bool is_ascii(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

void check_icu(UErrorCode status, const char* what) {
    KILN_CHECK(U_SUCCESS(status), "ICU failed to ", what, ": ", u_errorName(status));
}

}  // namespace

NormalizerKind parse_normalizer(const std::string& name) {
    if (name == "none") return NormalizerKind::kNone;
    if (name == "nfc") return NormalizerKind::kNfc;
    if (name == "nfkc") return NormalizerKind::kNfkc;
    throw UsageError(concat("normalizer \"", name, "\" is not known; choose from: ", kNormalizerNames));
}

const char* normalizer_name(NormalizerKind kind) {
    switch (kind) {
        case NormalizerKind::kNone: return "none";
        case NormalizerKind::kNfc: return "nfc";
        case NormalizerKind::kNfkc: return "nfkc";
    }
    return "";
}

struct Normalizer::Impl {
    // Hugging Face's normal forms are those of Unicode 9. ICU's newer data differ in 134 code points of NFKC and in the
    // order of 98 newer marks, so characters that are newer than Unicode 9 are not normalized.
    icu::UnicodeSet age;
    std::unique_ptr<icu::FilteredNormalizer2> filtered;

    explicit Impl(NormalizerKind kind) {
        UErrorCode status = U_ZERO_ERROR;
        age.applyPattern(icu::UnicodeString("[:age=9.0:]"), status);
        check_icu(status, "find the characters of Unicode 9");
        age.freeze();
        const icu::Normalizer2* whole = kind == NormalizerKind::kNfc ? icu::Normalizer2::getNFCInstance(status)
                                                                     : icu::Normalizer2::getNFKCInstance(status);
        check_icu(status, "load its normalization data");
        filtered = std::make_unique<icu::FilteredNormalizer2>(*whole, age);
    }
};

Normalizer::Normalizer(NormalizerKind kind) : kind_(kind) {
    if (kind != NormalizerKind::kNone) impl_ = std::make_unique<const Impl>(kind);
}
Normalizer::Normalizer(Normalizer&&) noexcept = default;
Normalizer& Normalizer::operator=(Normalizer&&) noexcept = default;
Normalizer::~Normalizer() = default;

std::string_view Normalizer::normalize(std::string_view text, std::string& buffer, Alignment* alignment) const {
    if (alignment) *alignment = {};
    if (!impl_ || is_ascii(text)) return text;
    const auto invalid = find_invalid_utf8(text);
    KILN_CHECK(!invalid, "byte ", invalid.value_or(0), " of the text is not UTF-8; the normalizer ",
               normalizer_name(kind_), " takes UTF-8 only");
    // ICU counts bytes in 32 bits, and a normal form may be longer than its source.
    KILN_CHECK(text.size() < INT32_MAX / 20, "a text of ", text.size(),
               " bytes is too long to normalize at once; split it");
    buffer.clear();
    icu::StringByteSink<std::string> sink(&buffer, static_cast<int32_t>(text.size()));
    UErrorCode status = U_ZERO_ERROR;
    icu::Edits edits;
    impl_->filtered->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink,
                                   alignment ? &edits : nullptr, status);
    check_icu(status, "normalize a text");
    if (alignment) {
        // All bytes of a change have the range of the whole change; the others are aligned byte by byte.
        for (auto edit = edits.getFineIterator(); edit.next(status);) {
            const size_t from = static_cast<size_t>(edit.sourceIndex()), to = from + edit.oldLength();
            for (int32_t i = 0; i < edit.newLength(); ++i) {
                alignment->begins_.push_back(edit.hasChange() ? from : from + i);
                alignment->ends_.push_back(edit.hasChange() ? to : from + i + 1);
            }
        }
        check_icu(status, "align a text with its normal form");
        alignment->begins_.push_back(text.size());
    }
    return buffer;
}

bool Normalizer::may_cut(std::string_view text, size_t at) const {
    if (!impl_) return true;
    uint32_t after = 0;
    const int length = decode_utf8(text.data() + at, text.data() + text.size(), after);
    const size_t before = character_before(text, at);
    const std::string_view both = text.substr(before, at - before + size_t(length));
    std::string buffer;
    return length > 0 && !find_invalid_utf8(both) && impl_->filtered->hasBoundaryBefore(int32_t(after)) &&
           normalize(both, buffer) == both;
}

}  // namespace kiln
