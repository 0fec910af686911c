#include "tools/cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include "cpu_reference/interface/text.h"

namespace kiln {

int terminal_columns(int fd) {
    constexpr int kUsual = 80;
    if (!isatty(fd)) return 0;
    winsize size{};
    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsual;
}

std::string printable(std::string_view text, std::string_view kept) {
    std::string out;
    for (size_t i = 0; i < text.size(); i++) {
        const unsigned char byte = static_cast<unsigned char>(text[i]);
        const unsigned char next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
        if (byte == 0xC2 && next >= 0x80 && next < 0xA0) {  // U+0080 to U+009F
            out += formatted("\\u%04x", next);
            i++;
        } else if ((byte >= 0x20 && byte != 0x7F) || kept.find(text[i]) != kept.npos ||
                   (byte == '\r' && next == '\n')) {
            out += text[i];
        } else {
            out += byte == '\n' ? "\\n" : formatted("\\x%02x", byte);
        }
    }
    return out;
}

}  // namespace kiln
