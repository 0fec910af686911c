#include "tokenizer/prepare/split_writer.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/sha256.h"

namespace kiln {

namespace fs = std::filesystem;

ShardSeries::ShardSeries(fs::path directory, std::string name, uint64_t shard_tokens, const ShardInfo& like)
    : directory_(std::move(directory)), name_(std::move(name)), shard_tokens_(shard_tokens), like_(like) {
    KILN_CHECK(shard_tokens_ >= 1 && shard_tokens_ <= kMaxShardTokens, "shards of ", shard_tokens_,
               " tokens: a shard holds 1 to ", kMaxShardTokens);
}

void ShardSeries::begin_document() {
    std::vector<unsigned char> end_of_text;
    pack_tokens({&like_.end_of_text, 1}, like_.vocab_size, end_of_text);
    put(end_of_text);
    split_.documents++;
    documents_in_shard_++;
}

void ShardSeries::append(std::span<const unsigned char> packed, uint64_t text_bytes) {
    put(packed);
    split_.text_bytes += text_bytes;
}

// A full shard is finished only when another token comes, so no shard is empty.
void ShardSeries::put(std::span<const unsigned char> packed) {
    const size_t token_bytes = size_t(shard_token_bytes(like_.vocab_size));
    while (!packed.empty()) {
        if (writer_ && writer_->num_tokens() == shard_tokens_) finish_shard();
        if (!writer_) {
            char number[16];
            std::snprintf(number, sizeof number, "_%06zu.bin", split_.files.size());
            split_.files.emplace_back().name = name_ + number;
            writer_.emplace(directory_ / split_.files.back().name, like_.vocab_size);
        }
        const uint64_t n = std::min<uint64_t>(packed.size() / token_bytes, shard_tokens_ - writer_->num_tokens());
        writer_->append(packed.first(n * token_bytes));
        packed = packed.subspan(n * token_bytes);
        split_.tokens += n;
    }
}

void ShardSeries::finish_shard() {
    ShardInfo info = like_;
    info.index = int(split_.files.size()) - 1;
    info.num_documents = std::exchange(documents_in_shard_, 0);
    info = writer_->finish(info);
    writer_.reset();
    ShardIndex::File& file = split_.files.back();
    file.tokens = info.num_tokens;
    file.documents = uint64_t(info.num_documents);
    file.xxh3 = hex(info.payload_xxh3);
}

ShardIndex::Split ShardSeries::finish() {
    if (writer_) finish_shard();
    for (const ShardIndex::File& file : split_.files) set_shard_count(directory_ / file.name, int(split_.files.size()));
    return split_;
}

nlohmann::json ShardSeries::save() {
    if (writer_) writer_->sync();
    return {{"split", split_to_json(split_)},
            {"partial", writer_.has_value()},
            {"partial_tokens", writer_ ? writer_->num_tokens() : 0},
            {"partial_documents", documents_in_shard_}};
}

void ShardSeries::restore(const nlohmann::json& saved) {
    split_ = split_from_json(saved.at("split"), directory_.string());
    documents_in_shard_ = saved.at("partial_documents");
    const bool partial = saved.at("partial");
    KILN_CHECK(!partial || !split_.files.empty(), directory_.string(), ": a partial shard without a name");
    for (size_t i = 0; i < split_.files.size(); i++) {
        const fs::path path = directory_ / split_.files[i].name;
        if (partial && i + 1 == split_.files.size()) {
            writer_.emplace(ShardWriter::resume(path, like_.vocab_size, saved.at("partial_tokens")));
        } else {
            KILN_CHECK(Shard(path).info().num_tokens == split_.files[i].tokens, path.string(), ": is another shard");
        }
    }
}

bool ShardSeries::owns(const std::string& file) const {
    return std::any_of(split_.files.begin(), split_.files.end(),
                       [&](const ShardIndex::File& own) { return own.name == file || partial_path(own.name) == file; });
}

SplitWriter::SplitWriter(const fs::path& directory, double val_fraction, uint64_t shard_tokens, const ShardInfo& like)
    : directory_(directory),
      val_fraction_(val_fraction),
      token_bytes_(size_t(shard_token_bytes(like.vocab_size))),
      train_(directory, "train", shard_tokens, like),
      val_(directory, "val", shard_tokens, like),
      test_(directory, "test", shard_tokens, like) {
    KILN_CHECK(val_fraction >= 0 && val_fraction < 1, "a validation fraction of ", val_fraction,
               " does not lie in [0, 1)");
}

void SplitWriter::begin_document(uint64_t hash, SplitName split) {
    documents_++;
    tokens_++;
    if (split == SplitName::test) {
        target_ = Target::test;
        test_.begin_document();
    } else if (split == SplitName::val || double(hash >> 11) * 0x1p-53 < val_fraction_) {
        val_chosen_ = true;
        release(best_, train_);
        target_ = Target::val;
        val_.begin_document();
    } else if (val_fraction_ > 0 && !val_chosen_ && (!best_ || hash < best_->hash)) {
        target_ = Target::held;
        current_ = Held();
        current_->hash = hash;
    } else {
        target_ = Target::train;
        train_.begin_document();
    }
}

void SplitWriter::append(std::span<const unsigned char> packed, uint64_t text_bytes) {
    tokens_ += packed.size() / token_bytes_;
    if (target_ == Target::held && current_->packed.size() + packed.size() > kMaxHeldTokens * token_bytes_) {
        release(current_, train_);
        target_ = Target::train;
    }
    if (target_ == Target::held) {
        current_->packed.insert(current_->packed.end(), packed.begin(), packed.end());
        current_->text_bytes += text_bytes;
    } else {
        series().append(packed, text_bytes);
    }
}

void SplitWriter::end_document() {
    if (target_ != Target::held) return;
    release(best_, train_);
    best_ = std::exchange(current_, std::nullopt);
}

void SplitWriter::release(std::optional<Held>& held, ShardSeries& series) {
    if (!held) return;
    series.begin_document();
    series.append(held->packed, held->text_bytes);
    held.reset();
}

void SplitWriter::finish(ShardIndex& index) {
    release(best_, documents_ >= 2 ? val_ : train_);
    index.train = train_.finish();
    index.val = val_.finish();
    index.test = test_.finish();
    if (index.train.documents == 0 && val_fraction_ > 0) {  // with few documents, all may be chosen for validation
        for (ShardIndex::File& file : index.val.files) {
            const std::string name = "train" + file.name.substr(std::strlen("val"));
            rename_file(directory_ / file.name, directory_ / name);
            file.name = name;
        }
        std::swap(index.train, index.val);
    }
}

nlohmann::json SplitWriter::save(const std::optional<Held>& held) {
    if (!held) return nullptr;
    return {{"hash", held->hash}, {"text_bytes", held->text_bytes}, {"tokens", nlohmann::json::binary(held->packed)}};
}

std::optional<SplitWriter::Held> SplitWriter::restore_held(const nlohmann::json& saved) {
    if (saved.is_null()) return std::nullopt;
    return Held{saved.at("hash"), saved.at("text_bytes"), saved.at("tokens").get_binary()};
}

nlohmann::json SplitWriter::save() {
    return {{"train", train_.save()},    {"val", val_.save()},      {"test", test_.save()},
            {"target", int(target_)},    {"best", save(best_)},     {"current", save(current_)},
            {"val_chosen", val_chosen_}, {"documents", documents_}, {"tokens", tokens_}};
}

void SplitWriter::restore(const nlohmann::json& saved) {
    // finish() may have been killed while it gave the shards for validation to training.
    if (saved.at("train").at("split").at("files").empty()) {
        for (const auto& file : split_from_json(saved.at("val").at("split"), directory_.string()).files) {
            const std::string train = "train" + file.name.substr(std::strlen("val"));
            if (fs::exists(status_of(directory_ / train))) rename_file(directory_ / train, directory_ / file.name);
        }
    }
    train_.restore(saved.at("train"));
    val_.restore(saved.at("val"));
    test_.restore(saved.at("test"));
    target_ = Target(saved.at("target").get<int>());
    best_ = restore_held(saved.at("best"));
    current_ = restore_held(saved.at("current"));
    val_chosen_ = saved.at("val_chosen");
    documents_ = saved.at("documents");
    tokens_ = saved.at("tokens");
}

}  // namespace kiln
