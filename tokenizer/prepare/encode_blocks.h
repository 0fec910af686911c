#pragma once
// Blocks -> tokens on several threads, handed on in order.
#include <cstdint>
#include <functional>
#include <vector>

#include "tokenizer/prepare/block_reader.h"
#include "tokenizer/prepare/documents.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

struct EncodedBlock {
    struct Piece {
        size_t tokens = 0, text_bytes = 0;
        uint64_t hash = 0;  // of the text
        bool ends_document = false, valid = true;
    };
    std::vector<Piece> pieces;
    std::vector<unsigned char> tokens;  // of all pieces, one after another, as pack_tokens() packs them
    std::vector<BadRecord> bad;
    std::vector<size_t> bad_before;  // for each of them: the piece it stands before
    InputPosition end;
    uint64_t bytes_read = 0;  // by the reader when it had this block
};

// One thread reads, finds the records' ends and unpacks; `threads` threads, of which the caller's is one, encode
// blocks. Whoever ends the block that is to be written next writes it. `write` is called by one thread at a time, in
// the order of the blocks; it returns false to stop. Throws what it or the reader threw, once the blocks before are
// written. Memory: 2 threads + 2 blocks of text or tokens at most, and no new block is read while those in flight come
// to more than so many times 2 MiB. So with the reader's own, and the parser's 13 bytes for each of the longest record,
// about (threads + 1) * 16 MiB; more for records longer than a block, and for each bad record its place and advice.
void encode_blocks(BlockReader& reader, const Tokenizer& tokenizer, const DocumentOptions& options, int threads,
                   const std::function<bool(const EncodedBlock&)>& write);

}  // namespace kiln
