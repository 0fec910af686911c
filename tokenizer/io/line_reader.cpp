#include "tokenizer/io/line_reader.h"

#include <algorithm>
#include <utility>

#include "cpu_reference/interface/error.h"

namespace kiln {

bool LineReader::next(std::string& lines, size_t bytes) {
    constexpr size_t kReadBytes = size_t(64) << 10, kMaxBytes = size_t(1) << 30;
    for (size_t searched = begin_ + bytes - 1;;) {
        const size_t newline = buffer_.find('\n', searched);
        if (newline != buffer_.npos || at_end_) {
            const size_t end = newline == buffer_.npos ? buffer_.size() : newline + 1;
            lines.assign(buffer_, begin_, end - begin_);
            begin_ = end;
            return !lines.empty();
        }
        searched = std::max(searched, buffer_.size()) - begin_;
        buffer_.erase(0, std::exchange(begin_, 0));
        const size_t have = buffer_.size();
        KILN_CHECK(have <= kMaxBytes, file_.path().string(), ": holds a line of more than ", kMaxBytes,
                   " bytes; cut it into lines");
        buffer_.resize(have + kReadBytes);
        const size_t n = file_.read(&buffer_[have], kReadBytes);
        buffer_.resize(have + n);
        at_end_ = n == 0;
        file_.check_unchanged();
    }
}

}  // namespace kiln
