// Linked into train_gpt2cu in place of Watch::set_phase: makes a rank fail where it enters a phase.
//   KILN_FAULT=kill:save:2@1    rank 1 is killed in the first save at step 2 or later
// kill, stop and hang happen when the other ranks have heard of the phase; fail and memory throw. The file that
// KILN_FAULT_MARK names is then written.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <new>
#include <string>

#include "cpu_reference/interface/error.h"
#include "tools/launch/watch.h"

extern "C" {

void __real__ZN4kiln5Watch9set_phaseEPKcl(kiln::Watch* watch, const char* phase, int64_t step);

void __wrap__ZN4kiln5Watch9set_phaseEPKcl(kiln::Watch* watch, const char* phase, int64_t step) {
    __real__ZN4kiln5Watch9set_phaseEPKcl(watch, phase, step);
    const char* const fault = std::getenv("KILN_FAULT");
    const char* const rank = std::getenv("RANK");
    if (!fault || !rank) return;
    const std::string text = fault;
    const size_t colon = text.find(':'), last = text.rfind(':'), at = text.rfind('@');
    const std::string action = text.substr(0, colon);
    if (text.substr(colon + 1, last - colon - 1) != phase || step < std::atoi(fault + last + 1)) return;
    if (std::string(rank) != fault + at + 1) return;
    if (action != "fail" && action != "memory") usleep(1'000'000);  // a heartbeat
    if (const char* const mark = std::getenv("KILN_FAULT_MARK")) close(creat(mark, 0600));
    if (action == "fail") throw kiln::Error("the test made it fail");
    if (action == "memory") throw std::bad_alloc();
    if (action == "hang") {
        for (;;) pause();
    }
    raise(action == "kill" ? SIGKILL : SIGSTOP);
}

}  // extern "C"
