#pragma once
// Encodes blocks on several threads, and passes on the tokens in order.
#include <cstdint>
#include <functional>
#include <vector>

#include "tokenizer/prepare/block_reader.h"
#include "tokenizer/prepare/documents.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

struct EncodedBlock {
    struct Chunk {
        size_t tokens = 0, text_bytes = 0;
        uint64_t bad_before = 0;  // bad records before it in the block
        uint64_t hash = 0;        // of the text
        bool ends_document = false, valid = true;
    };
    std::vector<Chunk> chunks;
    std::vector<unsigned char> tokens;  // of all chunks, in the format of pack_tokens()
    BadRecords bad;
    EncodeCounts counts;
    std::string first_unknown;  // place of the first document with a character that has no token
    SplitName split = SplitName::train;
    InputPosition end;
    uint64_t bytes_read = 0;  // by the reader, up to this block
};

// One thread reads; `threads` threads (with the caller's) encode. The thread that finishes the next block to be written
// writes it: `write` is called by one thread at a time, in the order of blocks, and returns false to stop. Throws the
// exception of `write` or of the reader after the blocks before it are written. At most N = 2 threads + 2 blocks are in
// memory, and no block is read while they have more than N * 2 MiB. With the memory of the reader, and of the parser
// (13 bytes for each byte of the longest record), this is about (threads + 1) * 16 MiB. Records and parts of documents
// that cannot be cut and are longer than a block, and the messages of bad records, need more.
void encode_blocks(BlockReader& reader, const Tokenizer& tokenizer, const DocumentOptions& options,
                   const EncodeOptions& encode, int threads, const std::function<bool(const EncodedBlock&)>& write);

}  // namespace kiln
