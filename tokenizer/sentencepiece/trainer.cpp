#include "tokenizer/sentencepiece/trainer.h"

#include <sentencepiece_trainer.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <exception>
#include <optional>
#include <thread>
#include <unordered_map>

#include "cpu_reference/interface/error.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/io/line_reader.h"
#include "tokenizer/sentencepiece/tokenizer.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {

namespace fs = std::filesystem;
using LibraryOptions = std::unordered_map<std::string, std::string>;

namespace {

constexpr size_t kLongestLine = 4192;  // the library's default; its BPE has 16 bits for the length of a word
constexpr size_t kReadBytes = size_t(1) << 20;
constexpr int kMostTokens = 100000000;  // means "all"

// Gives the library the lines of all documents and files, without newlines.
class Lines final : public sentencepiece::SentenceIterator {
public:
    Lines(const std::vector<std::string>& documents, const std::vector<fs::path>& files)
        : documents_(documents), files_(files) {
        Next();
    }
    bool done() const override { return done_; }
    void Next() override {
        while (rest_.empty()) {
            if (reader_ && reader_->next(storage_, kReadBytes)) {
                rest_ = storage_;
            } else if (next_document_ < documents_.size()) {
                rest_ = documents_[next_document_++];
            } else if (next_file_ < files_.size()) {
                reader_.emplace(InputFile(files_[next_file_++]));
            } else {
                done_ = true;
                return;
            }
        }
        const size_t end = std::min(rest_.find('\n'), rest_.size());
        if (end <= kLongestLine) {
            line_ = rest_.substr(0, end);
            rest_.remove_prefix(std::min(end + 1, rest_.size()));
            return;
        }
        size_t cut = rest_.rfind(' ', kLongestLine);
        if (cut == rest_.npos || cut == 0) {
            for (cut = kLongestLine; (rest_[cut] & 0xC0) == 0x80;) --cut;
        }
        line_ = rest_.substr(0, cut);
        rest_.remove_prefix(cut);
    }
    const std::string& value() const override { return line_; }
    sentencepiece::util::Status status() const override { return {}; }

private:
    const std::vector<std::string>& documents_;
    const std::vector<fs::path>& files_;
    size_t next_document_ = 0, next_file_ = 0;
    std::optional<LineReader> reader_;  // of the current file
    std::string storage_;
    std::string_view rest_;  // of the current document, or of some lines of the current file
    std::string line_;
    bool done_ = false;
};

// A file in memory, which a child process writes and its parent reads.
class SharedText {
public:
    SharedText() : fd_(::memfd_create("kiln", MFD_CLOEXEC)) {
        KILN_CHECK(fd_ >= 0, "cannot create a file in memory: ", std::strerror(errno));
    }
    SharedText(const SharedText&) = delete;
    ~SharedText() { ::close(fd_); }
    int fd() const { return fd_; }
    bool write(std::string_view text) const {
        while (!text.empty()) {
            const ssize_t written = ::write(fd_, text.data(), text.size());
            if (written < 0 && errno == EINTR) continue;
            if (written <= 0) return false;
            text.remove_prefix(static_cast<size_t>(written));
        }
        return true;
    }
    std::string read() const {
        struct stat info {};
        KILN_CHECK(::fstat(fd_, &info) == 0, "cannot read a file in memory: ", std::strerror(errno));
        std::string text(static_cast<size_t>(info.st_size), '\0');
        for (size_t at = 0; at < text.size();) {
            const ssize_t got = ::pread(fd_, text.data() + at, text.size() - at, static_cast<off_t>(at));
            KILN_CHECK(got > 0, "cannot read a file in memory: ", std::strerror(errno));
            at += static_cast<size_t>(got);
        }
        return text;
    }

private:
    int fd_;
};

// A child process, which the destructor kills.
class Child {
public:
    Child() : pid_(::fork()) { KILN_CHECK(pid_ >= 0, "cannot start a process: ", std::strerror(errno)); }
    Child(const Child&) = delete;
    ~Child() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    bool is_this_process() const { return pid_ == 0; }
    // Waits for its end, and returns its wait status.
    int wait(const std::function<void()>& poll) {
        for (int status = 0;;) {
            if (::waitpid(pid_, &status, WNOHANG) == pid_) {
                pid_ = -1;
                return status;
            }
            if (poll) poll();
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
    }

private:
    pid_t pid_;
};

// The last part of "Internal: ./src/file.cc(12) [condition] What is wrong, what to do."
std::string reason_of(std::string log) {
    log.erase(std::min(log.find("\nProgram terminated"), log.size()));
    log.erase(log.find_last_not_of(" \n.") + 1);
    std::replace(log.begin(), log.end(), '\n', ' ');
    // Kiln's options have other names than the library's.
    const auto rename = [&log](std::string_view theirs, std::string_view ours) {
        if (const size_t at = log.find(theirs); at != log.npos) log.replace(at, theirs.size(), ours);
    };
    rename("Increase vocab_size", "Increase --vocab-size");
    rename("character_coverage with --character_coverage option", "--character-coverage, for example to 0.995");
    const size_t bracket = log.rfind("] ");
    if (bracket != log.npos) return log.substr(bracket + 2);
    // Only its condition, in brackets, without the place in the library's sources.
    if (const size_t condition = log.rfind(" ["); condition != log.npos && log.ends_with(']')) {
        log = concat("its check", log.substr(condition), " fails");
    }
    return log + "; give it more text, or other options";
}

// Calls `train` in a child process and returns its result. Throws Error with the child's message if it fails.
std::string in_child_process(const std::function<std::string()>& train, const std::function<void()>& poll) {
    const SharedText result, log;
    const pid_t parent = ::getpid();
    Child child;
    if (child.is_this_process()) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) ::_exit(1);
        ::setpgid(0, 0);  // only the parent handles Ctrl-C
        sigset_t none;    // the parent has a thread for signals, this process has not
        ::sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        ::dup2(log.fd(), STDOUT_FILENO);
        ::dup2(log.fd(), STDERR_FILENO);
        bool good = false;
        try {
            good = result.write(train());
            if (!good) log.write("no memory for the model");
        } catch (const std::exception& error) {
            log.write(error.what());
        }
        ::_exit(good ? 0 : 1);
    }
    const int status = child.wait(poll);
    KILN_CHECK(!WIFSIGNALED(status), "the SentencePiece library was ended by signal ", WTERMSIG(status), " (",
               ::strsignal(WTERMSIG(status)), "), perhaps because memory ran out; give it less text");
    KILN_CHECK(WEXITSTATUS(status) == 0,
               "the SentencePiece library cannot train on this text: ", reason_of(log.read()));
    return result.read();
}

LibraryOptions library_options(const SentencePieceTrainerOptions& options) {
    static constexpr const char* kTypes[] = {"unigram", "bpe", "word", "char"};
    const bool identity = options.normalization == "identity";
    const bool all = options.vocab_size == 0 && options.kind == SentencePieceModel::Kind::character;
    LibraryOptions all_options = {
        {"model_type", kTypes[static_cast<int>(options.kind) - 1]},
        {"vocab_size", std::to_string(all ? kMostTokens : options.vocab_size)},
        {"normalization_rule_name", options.normalization},
        {"remove_extra_whitespaces", identity ? "false" : "true"},
        {"character_coverage", concat(options.character_coverage)},
        {"byte_fallback", options.byte_fallback ? "true" : "false"},
        {"num_threads", std::to_string(options.threads > 0 ? options.threads : 16)},
        {"bos_id", "-1"},
        {"minloglevel", "2"},
    };

    std::vector<AddedToken> tokens;
    const auto add = [&](const std::string& text) {
        tokens.push_back({.id = static_cast<int>(tokens.size()), .content = text, .special = true});
    };
    for (const std::string& text : options.special_tokens) add(text);
    if (!with_usual_names({}, tokens)[Role::eos]) add("</s>");
    if (!with_usual_names({}, tokens)[Role::unk]) add("<unk>");
    const Roles roles = with_usual_names({}, tokens);
    std::string control;
    for (const AddedToken& token : tokens) {
        const auto is = [&](Role role) { return roles[role] && roles[role]->id == token.id; };
        std::string role;  // of the four that the library knows; a token with two of them ends a document
        for (const Role known : {Role::unk, Role::bos, Role::pad, Role::eos}) {
            if (is(known)) role = role_table()[static_cast<size_t>(known)].name;
        }
        if (!role.empty()) {
            all_options[role + "_id"] = std::to_string(token.id);
            all_options[role + "_piece"] = token.content;
        } else {  // the library numbers these after the others, in order
            control += (control.empty() ? "" : ",") + token.content;
        }
    }
    if (!control.empty()) all_options["control_symbols"] = control;
    return all_options;
}

void check_options(const SentencePieceTrainerOptions& options) {
    check_special_tokens(options.special_tokens);
    for (const std::string& token : options.special_tokens) {
        if (token.find_first_of(",\"\n") != token.npos) {
            throw UsageError(concat("the special token \"", token,
                                    "\" holds a comma, a quotation mark or a line break, which SentencePiece's options "
                                    "cannot; choose another"));
        }
    }
    const bool all = options.vocab_size == 0 && options.kind == SentencePieceModel::Kind::character;
    const size_t special = std::max<size_t>(3, options.special_tokens.size());  // <unk>, <s> and </s> at least
    if (!all && (options.vocab_size <= 0 || size_t(options.vocab_size) <= special)) {
        throw UsageError(concat("a vocabulary of ", options.vocab_size, " tokens is too small: ", special,
                                " are special; 32000 is common"));
    }
}

}  // namespace

Tokenizer train_sentencepiece_tokenizer(const SentencePieceTrainerOptions& options, const std::vector<fs::path>& files,
                                        const std::vector<std::string>& documents) {
    check_options(options);
    const auto is_blank = [](std::string_view text) { return text.find_first_not_of(" \t\r\n") == text.npos; };
    bool empty = std::ranges::all_of(documents, is_blank);
    for (const fs::path& path : files) {
        LineReader reader{InputFile(path)};
        uint64_t before = 0;
        for (std::string lines; reader.next(lines, kReadBytes); before += lines.size()) {
            check_utf8(lines, path.string(), before);
            empty = empty && is_blank(lines);
        }
    }
    KILN_CHECK(!empty, files.empty() ? "" : files.front().string() + ": ", "there is no text to train on");

    const auto train = [&] {
        Lines lines(documents, files);
        std::string model;
        const auto status = sentencepiece::SentencePieceTrainer::Train(library_options(options), &lines, &model);
        KILN_CHECK(status.ok(), status.ToString());
        return model;
    };
    return make_sentencepiece_tokenizer(in_child_process(train, options.poll), "the trained model");
}

}  // namespace kiln
