#include "tokenizer/io/byte_source.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <unicode/ucnv.h>
#include <zlib.h>
#include <zstd.h>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/binary.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/tar_reader.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {

namespace fs = std::filesystem;

class ByteSource::Stream {
public:
    virtual ~Stream() = default;
    virtual size_t read(char* out, size_t bytes) = 0;  // 0 only at the end
};

namespace {

using Stream = ByteSource::Stream;
constexpr size_t kBufferBytes = size_t(128) << 10;
constexpr size_t kHeadBytes = 4096;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

class FileStream : public Stream {
public:
    explicit FileStream(const fs::path& path) : file_(InputFile::stream(path)) {}
    const uint64_t& taken() const { return taken_; }
    size_t read(char* out, size_t bytes) override {
        const size_t n = file_.read(out, bytes);
        file_.check_unchanged();  // else a part of it would pass for the whole
        taken_ += n;
        return n;
    }

private:
    InputFile file_;
    uint64_t taken_ = 0;
};

// The same bytes. The first ones, which tell the kind of data, are read ahead, since a pipe cannot be rewound.
class HeadStream : public Stream {
public:
    explicit HeadStream(std::unique_ptr<Stream> in) : in_(std::move(in)), head_(kHeadBytes, '\0') {
        size_t have = 0;
        for (size_t n; have < kHeadBytes && (n = in_->read(&head_[have], kHeadBytes - have)) > 0;) have += n;
        head_.resize(have);
    }
    std::string_view head() const { return head_; }
    void drop(size_t bytes) { head_.erase(0, bytes); }
    size_t read(char* out, size_t bytes) override {
        const size_t n = std::min(bytes, head_.size());
        if (n == 0) return in_->read(out, bytes);
        std::memcpy(out, head_.data(), n);
        drop(n);
        return n;
    }

private:
    std::unique_ptr<Stream> in_;
    std::string head_;
};

// The current member of an archive.
class MemberStream : public Stream {
public:
    explicit MemberStream(TarReader& archive) : archive_(archive) {}
    size_t read(char* out, size_t bytes) override { return archive_.read(out, bytes); }

private:
    TarReader& archive_;
};

// A stream that transforms the bytes of another one, through a buffer.
class Filter : public Stream {
public:
    Filter(std::unique_ptr<Stream> in, std::string name) : in_(std::move(in)), name_(std::move(name)) {}

protected:
    bool refill() {
        begin_ = 0;
        end_ = in_->read(buffer_.data(), buffer_.size());
        return end_ > 0;
    }
    std::unique_ptr<Stream> in_;
    const std::string name_;
    std::vector<char> buffer_ = std::vector<char>(kBufferBytes);
    size_t begin_ = 0, end_ = 0;
};

class GzipStream : public Filter {
public:
    GzipStream(std::unique_ptr<Stream> in, const std::string& name) : Filter(std::move(in), name) {
        constexpr int kGzipOnly = 16 + MAX_WBITS;
        KILN_CHECK(inflateInit2(&z_, kGzipOnly) == Z_OK, name, ": no memory to decompress it");
    }
    ~GzipStream() override { inflateEnd(&z_); }

    size_t read(char* out, size_t bytes) override {
        const size_t wanted = std::min(bytes, kBufferBytes);
        z_.next_out = reinterpret_cast<Bytef*>(out);
        z_.avail_out = uInt(wanted);
        while (z_.avail_out == wanted) {
            if (begin_ == end_ && !refill()) {
                KILN_CHECK(!in_member_, name_, ": the gzip data is truncated; copy or download the file again");
                return 0;
            }
            if (!in_member_) {  // zeros may follow a member, as on tapes
                if (members_ > 0)
                    begin_ =
                        size_t(std::find_if(&buffer_[begin_], buffer_.data() + end_, [](char c) { return c != 0; }) -
                               buffer_.data());
                if (begin_ == end_) continue;
                inflateReset(&z_);
                in_member_ = true;
            }
            z_.next_in = reinterpret_cast<Bytef*>(&buffer_[begin_]);
            z_.avail_in = uInt(end_ - begin_);
            const int result = inflate(&z_, Z_NO_FLUSH);
            begin_ = end_ - z_.avail_in;
            KILN_CHECK(result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR, name_,
                       ": the gzip data is damaged (", z_.msg ? z_.msg : "zlib", "); copy or download the file again");
            if (result == Z_STREAM_END) {
                in_member_ = false;
                members_++;
            }
        }
        return wanted - z_.avail_out;
    }

private:
    z_stream z_{};
    bool in_member_ = false;
    uint64_t members_ = 0;
};

class ZstdStream : public Filter {
public:
    ZstdStream(std::unique_ptr<Stream> in, const std::string& name)
        : Filter(std::move(in), name), context_(ZSTD_createDCtx()) {
        KILN_CHECK(context_, name, ": no memory to decompress it");
    }
    ~ZstdStream() override { ZSTD_freeDCtx(context_); }

    // The library refuses a window larger than 128 MiB, so memory is bounded.
    size_t read(char* out, size_t bytes) override {
        ZSTD_outBuffer to{out, bytes, 0};
        while (to.pos == 0) {
            if (begin_ == end_ && !pending_output_ && !refill()) {
                KILN_CHECK(!in_frame_, name_, ": the zstd data is truncated; copy or download the file again");
                return 0;
            }
            ZSTD_inBuffer from{buffer_.data(), end_, begin_};
            const size_t result = ZSTD_decompressStream(context_, &to, &from);
            KILN_CHECK(!ZSTD_isError(result), name_, ": the zstd data cannot be decompressed (",
                       ZSTD_getErrorName(result),
                       "); copy or download the file again, or compress it again without --long");
            begin_ = from.pos;
            in_frame_ = result != 0;
            pending_output_ = to.pos == to.size && in_frame_;  // more output may come without more input
        }
        return to.pos;
    }

private:
    ZSTD_DCtx* const context_;
    bool in_frame_ = false, pending_output_ = false;
};

class ConvertedStream : public Filter {
public:
    ConvertedStream(std::unique_ptr<Stream> in, const std::string& name, const std::string& encoding)
        : Filter(std::move(in), name), encoding_(encoding) {
        UErrorCode error = U_ZERO_ERROR;
        from_ = ucnv_open(encoding.c_str(), &error);
        to_ = ucnv_open("UTF-8", &error);
        ucnv_setToUCallBack(from_, UCNV_TO_U_CALLBACK_STOP, nullptr, nullptr, nullptr, &error);
        KILN_CHECK(U_SUCCESS(error), name, ": text in ", encoding, " cannot be read here (", u_errorName(error), ")");
    }
    ~ConvertedStream() override {
        ucnv_close(from_);
        ucnv_close(to_);
    }

    size_t read(char* out, size_t bytes) override {
        char* target = out;
        while (target == out && !done_) {
            const bool at_end = begin_ == end_ && !refill();
            const char* source = buffer_.data() + begin_;
            const char* const source_end = buffer_.data() + end_;
            UErrorCode error = U_ZERO_ERROR;
            ucnv_convertEx(to_, from_, &target, out + bytes, &source, source_end, pivot_.data(), &pivot_source_,
                           &pivot_target_, pivot_.data() + pivot_.size(), false, at_end, &error);
            offset_ += uint64_t(source - (buffer_.data() + begin_));
            begin_ = size_t(source - buffer_.data());
            KILN_CHECK(U_SUCCESS(error) || error == U_BUFFER_OVERFLOW_ERROR, name_, ": byte ", offset_,
                       " or the one before it is not ", encoding_, "; is --encoding right?");
            done_ = at_end && error != U_BUFFER_OVERFLOW_ERROR;
        }
        return size_t(target - out);
    }

private:
    const std::string encoding_;
    UConverter *from_ = nullptr, *to_ = nullptr;
    std::array<UChar, 4096> pivot_{};
    UChar *pivot_source_ = pivot_.data(), *pivot_target_ = pivot_.data();
    uint64_t offset_ = 0;
    bool done_ = false;
};

bool is_gzip(std::string_view head) {
    return head.starts_with("\x1F\x8B");
}

bool is_zstd(std::string_view head) {  // a frame, or a skippable frame, which pzstd writes first
    return head.starts_with("\x28\xB5\x2F\xFD") ||
           (head.size() >= 4 && (head[0] & 0xF0) == 0x50 && head.substr(1, 3) == "\x2A\x4D\x18");
}

std::unique_ptr<HeadStream> decompressed(std::unique_ptr<Stream> in, const std::string& name,
                                         bool* uncompressed = nullptr) {
    auto file = std::make_unique<HeadStream>(std::move(in));
    const std::string_view head = file->head();
    std::unique_ptr<Stream> content;
    if (is_gzip(head)) {
        content = std::make_unique<GzipStream>(std::move(file), name);
    } else if (is_zstd(head)) {
        content = std::make_unique<ZstdStream>(std::move(file), name);
    } else {
        KILN_CHECK(head.empty() || (!name.ends_with(".gz") && !name.ends_with(".zst")), name,
                   ": its name says that it is compressed, but it is not; download it again, or rename it");
        if (uncompressed) *uncompressed = true;
        return file;
    }
    return std::make_unique<HeadStream>(std::move(content));
}

// Throws Error if the marks and the first bytes of a text show that its encoding is another one. Nearly any bytes can
// be read as UTF-16, so a wrong name would give garbage.
void check_encoding(std::string_view head, const std::string& name, const std::string& encoding) {
    using std::string_view_literals::operator""sv;
    KILN_CHECK(!head.starts_with("\xFF\xFE\0\0"sv) && !head.starts_with("\0\0\xFE\xFF"sv), name,
               ": begins with the mark of UTF-32; convert it first: iconv -f UTF-32 -t UTF-8 FILE");
    const std::string marked = head.starts_with("\xFF\xFE")   ? "utf-16le"
                               : head.starts_with("\xFE\xFF") ? "utf-16be"
                                                              : "";
    const bool utf16 = encoding.starts_with("utf-16");
    if (!marked.empty()) {
        KILN_CHECK(encoding == "utf-16" || encoding == marked, name,
                   ": begins with the mark of UTF-16; read it with --encoding utf-16");
        return;
    }
    if (!utf16 || head.empty()) return;
    // The last character of the first bytes may be cut. NUL is half of any ASCII character in UTF-16.
    const std::string_view whole = head.substr(0, head.size() - incomplete_utf8_tail(head));
    KILN_CHECK(head.find('\0') != head.npos || find_invalid_utf8(whole), name, ": is UTF-8, not ", encoding,
               "; leave out --encoding");
    const std::string order = utf16_order(head);
    KILN_CHECK(encoding != "utf-16", name, ": has no byte order mark; read it with --encoding ",
               order.empty() ? "utf-16le or utf-16be" : order);
    KILN_CHECK(order.empty() || order == encoding, name, ": its bytes are in the order of ", order, ", not of ",
               encoding);
}

// Throws Error if it is not text.
std::unique_ptr<Stream> converted(std::unique_ptr<HeadStream> text, const std::string& name,
                                  const std::string& encoding) {
    check_encoding(text->head(), name, encoding);
    if (encoding != "utf-8") {
        text = std::make_unique<HeadStream>(std::make_unique<ConvertedStream>(std::move(text), name, encoding));
    }
    const std::string wrong = not_text(text->head());
    KILN_CHECK(wrong.empty(), name, ": ", wrong);
    if (text->head().starts_with(kByteOrderMark)) text->drop(kByteOrderMark.size());
    return text;
}

}  // namespace

const std::vector<std::string>& text_encodings() {
    static const std::vector<std::string> names = {"utf-8", "latin-1", "windows-1252", "gb18030",
                                                   "big5",  "utf-16",  "utf-16le",     "utf-16be"};
    return names;
}

ByteSource::ByteSource(const fs::path& path, const std::string& encoding, Wanted wanted)
    : name_(path.string()), encoding_(encoding), wanted_(std::move(wanted)) {
    auto file = std::make_unique<FileStream>(path);
    file_bytes_ = &file->taken();
    auto content = decompressed(std::move(file), name_, &plain_);
    if (TarReader::is_header(content->head())) {
        plain_ = false;
        archive_stream_ = std::move(content);
        archive_ = std::make_unique<TarReader>(
            name_, [in = archive_stream_.get()](char* out, size_t bytes) { return in->read(out, bytes); });
    } else {
        plain_ = plain_ && encoding == "utf-8" && !content->head().starts_with(kByteOrderMark);
        stream_ = converted(std::move(content), name_, encoding);
    }
}

ByteSource::ByteSource(ByteSource&&) noexcept = default;
ByteSource::~ByteSource() = default;

bool ByteSource::next() {
    if (!archive_) return std::exchange(first_, false);
    do {
        if (!archive_->next()) return false;
    } while (!wanted_(archive_->member()));
    name_ = concat(archive_->archive(), ":", archive_->member());
    stream_ = converted(decompressed(std::make_unique<MemberStream>(*archive_), name_), name_, encoding_);
    return true;
}

size_t ByteSource::read(char* out, size_t bytes) {
    return stream_->read(out, bytes);
}

void ByteSource::skip(uint64_t bytes) {
    std::vector<char> buffer(kBufferBytes);
    while (bytes > 0) {
        const size_t n = read(buffer.data(), std::min<uint64_t>(bytes, buffer.size()));
        KILN_CHECK(n > 0, name_, ": is shorter than before; remove the output directory and start again");
        bytes -= n;
    }
}

std::vector<std::string> archive_members(const fs::path& archive) {
    std::vector<std::string> members;
    ByteSource source(archive, "utf-8", [&](const std::string& member) {
        members.push_back(member);
        return false;
    });
    // No member is wanted, so only a file that is no archive has a text.
    KILN_CHECK(!source.next(), archive.string(),
               ": its name says that it is an archive, but it is not; download it again, or rename it");
    return members;
}

uint64_t ByteSource::file_bytes() const {
    return *file_bytes_;
}

}  // namespace kiln
