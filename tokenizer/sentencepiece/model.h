#pragma once
// SentencePiece's .model files: what they hold, and a reader that trusts none of their bytes.
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

struct SentencePiece {
    enum class Type { normal = 1, unknown, control, user_defined, unused, byte };  // as in the file
    std::string text;                                                              // a space is "▁" (U+2581)
    float score = 0;  // of BPE: the higher, the earlier merged
    Type type = Type::normal;
};

struct SentencePieceModel {
    enum class Kind { unigram = 1, bpe, word, character };  // as in the file
    Kind kind = Kind::unigram;
    std::vector<SentencePiece> pieces;  // by id
    bool byte_fallback = false;         // a character without a piece becomes the pieces of its bytes
    bool whitespace_is_suffix = false;  // "a▁" instead of "▁a"
    bool whitespace_only_pieces = false;
    std::string end_of_text = "</s>";     // the text of the control piece that ends a text
    std::string unknown_surface = " ⁇ ";  // what the unknown piece decodes to

    // Normalisation, before anything else.
    std::string charsmap;  // rules "longest prefix -> replacement": SentencePieceNormalizer
    bool add_dummy_prefix = true;
    bool remove_extra_whitespaces = true;
    bool escape_whitespaces = true;  // a space becomes "▁"

    int unknown_id = -1;        // of the only piece of that type
    std::vector<int> byte_ids;  // by byte; empty without byte_fallback

    // Of a file's content. Throws Error with `name`, the offset and what is wrong there, for anything the library would
    // refuse, crash on or loop on: the pieces are not empty, UTF-8, different from each other, of finite scores.
    static SentencePieceModel parse(std::string_view file, const std::string& name);

    // A file with these pieces that changes no text before it encodes it: for the library, whose own normalisation
    // checks no bounds.
    std::string serialize_without_normalization() const;
};

}  // namespace kiln
