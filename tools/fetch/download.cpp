#include "tools/fetch/download.h"

#include <curl/curl.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <optional>
#include <thread>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/sha256.h"

namespace kiln {

namespace fs = std::filesystem;

namespace {

constexpr long kPartialContent = 206, kRangeNotSatisfiable = 416;

std::string sha256_of(const fs::path& path) {
    return hex(sha256(read_file(path)));
}

struct CurlCloser {
    void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
};

// One request and its result. libcurl's callbacks must not throw, so `failure` keeps an exception until the end.
struct Transfer {
    const Download& what;
    const DownloadProgress& progress;
    fs::path part;
    uint64_t offset = 0;  // where the next byte goes
    std::unique_ptr<CURL, CurlCloser> curl{curl_easy_init()};
    std::optional<OutputFile> file = {};
    std::exception_ptr failure = {};
    std::string refused = {};  // why the answer cannot be used

    long status() const {
        long code = 0;
        curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &code);
        return code;
    }

    // At the first byte, when the headers are known.
    void open() {
        if (status() == kPartialContent && offset > 0) {
            // If the server resumes at another byte, the hash will be wrong.
            file.emplace(OutputFile::update(part));
        } else {
            offset = 0;  // the server ignores ranges
            file.emplace(part);
        }
    }

    bool take(const char* data, size_t bytes) {
        if (!file) open();
        if (refused.empty() && offset + bytes > what.max_bytes) {
            refused = concat("is larger than the ", what.max_bytes, " bytes that are expected at most");
        }
        if (!refused.empty()) return false;
        file->write_at(offset, data, bytes);
        offset += bytes;
        return true;
    }

    void report() const {
        curl_off_t rest = -1;
        curl_easy_getinfo(curl.get(), CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &rest);
        curl_off_t got = 0;
        curl_easy_getinfo(curl.get(), CURLINFO_SIZE_DOWNLOAD_T, &got);
        if (progress && file) progress(offset, rest < 0 ? 0 : offset + uint64_t(std::max(rest, got) - got));
    }
};

size_t on_body(char* data, size_t size, size_t count, void* user) {
    auto& transfer = *static_cast<Transfer*>(user);
    try {
        if (!transfer.take(data, size * count)) return 0;
        transfer.report();
        return size * count;
    } catch (...) {
        transfer.failure = std::current_exception();
        return 0;
    }
}

// There is no connection: no network, a wrong name, or the server is down. Waiting would not help.
bool is_unreachable(CURLcode code) {
    return code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT ||
           code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_SSL_CACERT_BADFILE ||
           code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_TOO_MANY_REDIRECTS;
}

enum class Outcome { complete, interrupted, restart };

// Downloads as much of the part as it can; `reason` says why it is not complete. Throws Error if another attempt would
// not help.
Outcome attempt(const Download& what, const fs::path& part, const DownloadLimits& limits,
                const DownloadProgress& progress, std::string& reason) {
    Transfer transfer{.what = what, .progress = progress, .part = part};
    CURL* curl = transfer.curl.get();
    KILN_CHECK(curl, what.url, ": libcurl cannot start; is there enough memory?");
    std::error_code missing;
    const uint64_t size = fs::file_size(part, missing);
    transfer.offset = missing ? 0 : size;
    const uint64_t resumed_at = transfer.offset;

    char detail[CURL_ERROR_SIZE] = "";
    curl_easy_setopt(curl, CURLOPT_URL, what.url.c_str());
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "kiln");
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);  // the page that says what is wrong may have no end
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 5L);
    const char* protocols = what.url.starts_with("https:") ? "https" : "http,https";  // no way back to plain text
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, protocols);
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, protocols);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, long(limits.connect.count()));
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 100L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, long(limits.stall.count()));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
    const std::string range = std::to_string(resumed_at) + "-";
    if (resumed_at > 0) curl_easy_setopt(curl, CURLOPT_RANGE, range.c_str());

    const CURLcode code = curl_easy_perform(curl);
    if (transfer.failure) std::rethrow_exception(transfer.failure);
    const long status = transfer.status();
    if (!transfer.refused.empty()) {
        KILN_CHECK(resumed_at > 0, what.url, ": ", transfer.refused);
        reason = transfer.refused;
        return Outcome::restart;
    }
    if (status == kRangeNotSatisfiable && resumed_at > 0) {
        reason = concat("the server has no byte ", resumed_at);
        return Outcome::restart;
    }
    if (code == CURLE_HTTP_RETURNED_ERROR) {
        reason = concat("the server answers ", status);
        KILN_CHECK(status >= 500 || status == 408 || status == 429, what.url, ": ", reason,
                   status == 404 ? " (there is no such file)" : "");
        return Outcome::interrupted;
    }
    if (code != CURLE_OK) {
        reason = *detail ? detail : curl_easy_strerror(code);
        // A timeout before any answer counts as no connection.
        const bool no_answer = code == CURLE_OPERATION_TIMEDOUT && status == 0;
        KILN_CHECK(!is_unreachable(code) && !no_answer, what.url, ": ", reason);
        return Outcome::interrupted;
    }
    if (!transfer.file) transfer.open();  // an empty body
    transfer.file->sync();
    transfer.file->close();
    return Outcome::complete;
}

// Initializes libcurl once; two threads must not do it at the same time.
void start_curl() {
    static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
    KILN_CHECK(code == CURLE_OK, "libcurl cannot start: ", curl_easy_strerror(code));
}

}  // namespace

bool file_has_sha256(const fs::path& path, const std::string& sha256) {
    return fs::is_regular_file(status_of(path)) && sha256_of(path) == sha256;
}

void download(const Download& what, const DownloadLimits& limits, const DownloadProgress& progress) {
    start_curl();
    // With the hash in its name, a part is not used for another file.
    const fs::path part = concat(what.path.string(), ".", what.sha256.substr(0, 8), ".part");
    std::string reason;
    std::chrono::milliseconds pause = limits.pause;
    for (int i = 0; i < limits.attempts; i++) {
        if (i > 0) std::this_thread::sleep_for(pause), pause *= 2;
        const bool resumed = fs::exists(status_of(part));
        // A process killed before the rename leaves a complete part.
        if (!(resumed && file_has_sha256(part, what.sha256))) {
            const Outcome outcome = attempt(what, part, limits, progress, reason);
            if (outcome == Outcome::restart) fs::remove(part);
            if (outcome != Outcome::complete) continue;
            const std::string got = sha256_of(part);
            if (got != what.sha256) {
                const uint64_t bytes = fs::file_size(part);
                fs::remove(part);
                reason = concat("SHA-256 is ", got, " (of ", bytes, " bytes), expected ", what.sha256);
                KILN_CHECK(resumed, what.url, ": ", reason, "; it is not the published file, and was removed");
                continue;  // the part was of another file
            }
        }
        std::error_code failed;
        fs::rename(part, what.path, failed);
        KILN_CHECK(!failed, what.path.string(), ": cannot be written: ", failed.message());
        sync_directory(what.path.parent_path());
        return;
    }
    throw Error(concat(what.url, ": ", reason, " (", limits.attempts, " attempts",
                       fs::exists(status_of(part)) ? "; the next call resumes the download)" : ")"));
}

}  // namespace kiln
