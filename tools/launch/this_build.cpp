// Which program runs, for ranks that compare it.
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tokenizer/io/file.h"
#include "tools/cli/version.h"
#include "tools/launch/handshake.h"

namespace kiln {

std::string this_build() {
    InputFile program("/proc/self/exe");
    Xxh3 hash;
    std::vector<char> part(size_t(1) << 20);
    while (const size_t n = program.read(part.data(), part.size())) hash.update(part.data(), n);
    return concat(kVersion, " ", formatted("%016llx", static_cast<unsigned long long>(hash.digest())));
}

}  // namespace kiln
