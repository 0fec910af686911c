#pragma once
// The contents of SentencePiece's .model files, and a reader that checks every byte of them.
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

inline constexpr std::string_view kSpaceSymbol = "▁";  // U+2581, a space in the text of a piece
std::string with_spaces(std::string_view piece);       // with a space for each kSpaceSymbol

struct SentencePiece {
    enum class Type { normal = 1, unknown, control, user_defined, unused, byte };  // as in the file
    std::string text;
    float score = 0;  // BPE merges the highest score first
    Type type = Type::normal;
};

struct SentencePieceModel {
    enum class Kind { unigram = 1, bpe, word, character };  // as in the file
    Kind kind = Kind::unigram;
    std::vector<SentencePiece> pieces;  // by id
    bool byte_fallback = false;         // a character without a piece is encoded as its bytes
    bool whitespace_is_suffix = false;  // "a▁" instead of "▁a"
    bool whitespace_only_pieces = false;
    // The pieces that begin a text, end it and fill a batch; empty: there is none.
    std::string bos = "<s>", eos = "</s>", pad;
    std::string unknown_surface = " ⁇ ";  // the decoded text of the unknown piece

    // Normalization, which comes first.
    std::string charsmap;  // rules "longest prefix -> replacement", for SentencePieceNormalizer
    bool add_dummy_prefix = true;
    bool remove_extra_whitespaces = true;
    bool escape_whitespaces = true;  // a space becomes "▁"

    int unknown_id = -1;        // of the unknown piece
    std::vector<int> byte_ids;  // by byte; empty without byte_fallback

    // Reads the content of a file. Throws Error with `name`, the offset and the reason, for anything that the library
    // would refuse or crash on: every piece is unique UTF-8 text, not empty, with a finite score.
    static SentencePieceModel parse(std::string_view file, const std::string& name);

    // A file with these pieces and this normalization; the names of bos, eos and pad are the library's.
    std::string serialize() const;
    // The same but without normalization, for the library: its own normalization checks no bounds.
    std::string serialize_without_normalization() const;
};

}  // namespace kiln
